//! Nodes and pods that freeze or crash, and nodes that get another address.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{FaultError, Site};
use super::guard::Fault;
use super::registry::{Inverse, Placement};
use crate::cluster::{Node, Pod};
use crate::error::Error;
use crate::machine::Machine;
use crate::probe::server::FrozenServer;

impl Node {
    /// Stops every process of the node and of the pods on it (SIGSTOP), the servers of its pods
    /// included, as on a machine that hangs. Its kernel goes on: it forwards and answers pings.
    /// Processes that were stopped before stay stopped when it is healed; what a test starts while
    /// it is frozen runs.
    ///
    /// # Errors
    /// When nothing runs on the node, or a process does not stop.
    pub async fn freeze(&self) -> Result<Fault, Error> {
        let mut machines = vec![(**self).clone()];
        machines.extend(self.pod_machines());
        freeze(self, self.processes(), machines, self.pods()).await
    }

    /// Switches the node off, as by its power cord, with the pods on it: every process and every
    /// interface is gone at once, and its verbs are [`Error::Crashed`]. The datastore still says
    /// that it is there, since nobody could say otherwise.
    ///
    /// Healing switches it on again, with the same names, addresses and hardware addresses, and
    /// nothing else of its former life, and returns when its agent is ready. The same handles
    /// work.
    ///
    /// # Errors
    /// When it has crashed already.
    pub async fn crash(&self) -> Result<Fault, Error> {
        let site = Site::new("crash", self.name());
        let faults = self.live()?.faults();
        let placement = Placement {
            claim: Some(site.to_string()),
            machine: Some(self.name().to_owned()),
            site,
        };
        let apply = async {
            self.power_off().await?;
            let node = self.downgrade();
            Ok(Inverse::new(move || {
                let node = node.clone();
                async move {
                    match node.upgrade() {
                        Some(node) => node.power_on().await,
                        None => Ok(()),
                    }
                }
            })
            .after_others())
        };
        faults.put(placement, self.events(), apply).await
    }

    /// Gives the node another underlay address with its prefix, as
    /// [`set_address`](Self::set_address) does; healing gives it back the one that it had.
    ///
    /// # Errors
    /// When it cannot have that address, or has it already.
    pub async fn change_address(&self, address: &str) -> Result<Fault, Error> {
        let before = self.live()?.address_with_prefix();
        let site = Site::new(format!("address {address} for {before}"), self.name());
        if address == before {
            return Err(site.no_effect("it has that address"));
        }
        let faults = self.faults();
        let placement = Placement {
            site,
            machine: Some(self.name().to_owned()),
            claim: Some(format!("address of {}", self.name())),
        };
        let apply = async {
            self.set_address(address).await?;
            let (node, before) = (self.downgrade(), before.clone());
            Ok(Inverse::new(move || {
                let (node, before) = (node.clone(), before.clone());
                async move {
                    match node.upgrade() {
                        Some(node) => node.set_address(before).await,
                        None => Ok(()),
                    }
                }
            }))
        };
        faults.put(placement, self.events(), apply).await
    }

    /// The claim of whoever stops processes of the node.
    pub(super) fn processes(&self) -> String {
        format!("processes of {}", self.name())
    }
}

impl Pod {
    /// Stops every process of the pod (SIGSTOP), its servers included; see [`Node::freeze`]. What
    /// the pod's node has stopped as well goes on when both are healed.
    ///
    /// # Errors
    /// When nothing runs in the pod, or a process does not stop.
    pub async fn freeze(&self) -> Result<Fault, Error> {
        let claim = format!("processes of pod {}", self.name());
        freeze(self, claim, vec![(**self).clone()], vec![self.clone()]).await
    }
}

async fn freeze(
    machine: &Machine,
    claim: String,
    machines: Vec<Machine>,
    pods: Vec<Pod>,
) -> Result<Fault, Error> {
    let faults = machine.live()?.faults();
    let site = Site::new("freeze", machine.name());
    let placement = Placement {
        site: site.clone(),
        machine: Some(machine.name().to_owned()),
        claim: Some(claim),
    };
    let apply = async {
        let namespaces: BTreeSet<u64> = machines
            .iter()
            .map(|machine| machine.namespaces().net_inode())
            .collect();
        let frozen = faults.freezer().all_in(&namespaces).await;
        let frozen = frozen.map_err(FaultError::from)?;
        let servers: Vec<FrozenServer> = pods.iter().flat_map(Pod::freeze_servers).collect();
        if frozen.ran() == 0 && !servers.iter().any(FrozenServer::ran) {
            frozen.thaw();
            return Err(site.no_effect("nothing runs there"));
        }
        let (frozen, servers) = (Arc::new(frozen), Arc::new(Mutex::new(servers)));
        Ok(Inverse::new(move || {
            let (frozen, servers) = (Arc::clone(&frozen), Arc::clone(&servers));
            async move {
                frozen.thaw();
                servers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clear();
                Ok(())
            }
        }))
    };
    faults.put(placement, machine.events(), apply).await
}
