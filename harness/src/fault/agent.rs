//! Agents that hang, die, or come late.

use std::sync::Arc;

use super::error::{FaultError, Site};
use super::guard::Fault;
use super::registry::{Inverse, Placement};
use crate::agent::AgentStatus;
use crate::cluster::Node;
use crate::error::Error;

impl Node {
    /// Stops the agent's process (SIGSTOP), as when it hangs; healing lets it go on. One that was
    /// killed and started again meanwhile runs.
    ///
    /// # Errors
    /// When no agent runs, or it is stopped already.
    pub async fn freeze_agent(&self) -> Result<Fault, Error> {
        let site = Site::new("agent frozen", self.name());
        let faults = self.live()?.faults();
        let placement = self.at(&site, self.processes());
        let apply = async {
            let Some(id) = self.agent_id() else {
                return Err(site.no_effect("no agent runs"));
            };
            let frozen = faults.freezer().one(id).await.map_err(FaultError::from)?;
            if frozen.ran() == 0 {
                frozen.thaw();
                return Err(site.no_effect("it is stopped already"));
            }
            let frozen = Arc::new(frozen);
            Ok(Inverse::new(move || {
                let frozen = Arc::clone(&frozen);
                async move {
                    frozen.thaw();
                    Ok(())
                }
            }))
        };
        faults.put(placement, self.events(), apply).await
    }

    /// Kills the agent (SIGKILL), and nobody starts it again; healing starts it, unless a test has,
    /// and returns when it is ready. The node's network stays as it is.
    ///
    /// # Errors
    /// When no agent runs.
    pub async fn crash_agent(&self) -> Result<Fault, Error> {
        self.without_agent("agent killed", self.kill_agent()).await
    }

    /// Stops the agent in the orderly way (SIGTERM), and its node is without one until this is
    /// healed, which starts it and returns when it is ready: an agent that comes late, on a node
    /// that has had one before.
    ///
    /// # Errors
    /// When no agent runs, or it does not end in time.
    pub async fn delay_agent(&self) -> Result<Fault, Error> {
        self.without_agent("agent stopped", self.stop_agent()).await
    }

    /// The fault of an agent that was there: `end` ends it, healing starts it.
    async fn without_agent(
        &self,
        fault: &str,
        end: impl Future<Output = Result<(), Error>>,
    ) -> Result<Fault, Error> {
        let site = Site::new(fault, self.name());
        let faults = self.live()?.faults();
        let placement = self.at(&site, format!("agent of {}", self.name()));
        let apply = async {
            if !self.is_agent_running() {
                return Err(site.no_effect("no agent runs"));
            }
            end.await?;
            Ok(self.agent_back())
        };
        faults.put(placement, self.events(), apply).await
    }

    /// Stops the agent in the orderly way (SIGTERM) and starts it again; returns when it is ready.
    ///
    /// # Errors
    /// When it does not stop or does not become ready.
    pub async fn restart_agent(&self) -> Result<AgentStatus, Error> {
        self.stop_agent().await?;
        self.start_agent().await
    }

    /// The fault of a node that was made without its agent: healing starts it. Nothing for all
    /// others.
    pub(crate) async fn miss_agent(&self) -> Result<(), Error> {
        if !self.agent_comes_later() {
            return Ok(());
        }
        let site = Site::new("agent not started yet", self.name());
        let placement = self.at(&site, format!("agent of {}", self.name()));
        let apply = async { Ok(self.agent_back()) };
        let fault = self.faults().put(placement, self.events(), apply);
        fault.await.map(drop)
    }

    fn agent_back(&self) -> Inverse {
        let node = self.downgrade();
        Inverse::new(move || {
            let node = node.clone();
            async move {
                match node.upgrade().filter(|node| !node.is_agent_running()) {
                    Some(node) => node.start_agent().await.map(drop),
                    None => Ok(()),
                }
            }
        })
        .after_others()
    }

    fn at(&self, site: &Site, claim: String) -> Placement {
        Placement {
            site: site.clone(),
            machine: Some(self.name().to_owned()),
            claim: Some(claim),
        }
    }
}
