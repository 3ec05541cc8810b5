//! A node: a machine on the underlay in which an agent runs.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;

use super::Inner;
use crate::agent::{AgentStatus, RunningAgent};
use crate::error::Error;
use crate::machine::Machine;
use crate::spec::NodePlan;

/// Where a node finds the cluster's datastore.
pub(super) const DATASTORE_IN_NODE: &str = "/run/podlab/datastore";

/// A handle on a node. It has all the verbs of a [`Machine`].
#[derive(Debug, Clone)]
pub struct Node {
    cluster: Arc<Inner>,
    index: usize,
}

#[derive(Debug)]
pub(super) struct NodeState {
    pub(super) machine: Machine,
    pub(super) plan: NodePlan,
    pub(super) log: PathBuf,
    /// Empty while no agent runs.
    pub(super) agent: Mutex<Option<RunningAgent>>,
    /// What the last agent said when it became ready.
    pub(super) status: Mutex<AgentStatus>,
}

impl Node {
    pub(super) fn new(cluster: &Arc<Inner>, index: usize) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            index,
        }
    }

    /// Its address on the underlay.
    pub fn address(&self) -> Ipv4Addr {
        self.state().plan.address.addr()
    }

    /// The name of its underlay interface.
    pub fn underlay(&self) -> &str {
        &self.state().plan.interface
    }

    /// The name of its port in the [fabric](super::Cluster::fabric).
    pub fn fabric_port(&self) -> &str {
        &self.state().plan.port
    }

    /// The address of its tunnel device.
    pub fn tunnel_address(&self) -> Option<Ipv4Addr> {
        self.state().plan.tunnel_address
    }

    /// The blocks of pod addresses that it owns.
    pub fn blocks(&self) -> &[Ipv4Net] {
        &self.state().plan.blocks
    }

    /// What its agent said when it last became ready.
    pub fn agent_status(&self) -> AgentStatus {
        lock(&self.state().status).clone()
    }

    /// Everything that its agents have written to standard output and standard error.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn agent_log(&self) -> Result<String, Error> {
        let path = &self.state().log;
        std::fs::read_to_string(path).map_err(|source| Error::State {
            operation: "read",
            path: path.clone(),
            source,
        })
    }

    /// Whether an agent was started and not stopped since.
    pub fn is_agent_running(&self) -> bool {
        lock(&self.state().agent).is_some()
    }

    /// The process id of its agent in the sandbox; `None` while none runs.
    pub fn agent_id(&self) -> Option<u32> {
        lock(&self.state().agent).as_ref()?.id()
    }

    /// Starts the agent and waits until it is ready. One that runs is killed first.
    ///
    /// # Errors
    /// When it does not become ready; the end of its log is in the message.
    pub async fn start_agent(&self) -> Result<AgentStatus, Error> {
        self.kill_agent().await?;
        let state = self.state();
        let mut agent = RunningAgent::start(
            self.cluster.agent.as_ref(),
            self.name(),
            self.namespaces(),
            Path::new(DATASTORE_IN_NODE),
            &state.log,
        )?;
        let status = agent.ready().await?;
        *lock(&state.status) = status.clone();
        *lock(&state.agent) = Some(agent);
        Ok(status)
    }

    /// Asks the agent to stop and waits until it has. The node's network stays as it is.
    ///
    /// # Errors
    /// When it had ended by itself, fails, or does not end in time.
    pub async fn stop_agent(&self) -> Result<(), Error> {
        let agent = lock(&self.state().agent).take();
        match agent {
            Some(agent) => Ok(agent.stop().await?),
            None => Ok(()),
        }
    }

    /// Kills the agent as a crash would. The node's network stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn kill_agent(&self) -> Result<(), Error> {
        let agent = lock(&self.state().agent).take();
        match agent {
            Some(agent) => Ok(agent.kill().await?),
            None => Ok(()),
        }
    }

    fn state(&self) -> &NodeState {
        &self.cluster.nodes[self.index]
    }
}

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.state().machine
    }
}

/// So that a node can be pinged by its handle.
impl From<&Node> for Ipv4Addr {
    fn from(node: &Node) -> Self {
        node.address()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
