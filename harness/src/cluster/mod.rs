//! A running cluster and the handles on its nodes and pods.

mod boot;
mod container;
mod files;
mod node;
mod pod;
mod timing;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use tempfile::TempDir;

pub use container::Container;
pub use node::Node;
pub use pod::Pod;
pub use timing::BootReport;

use crate::agent::{Agent, PodlabAgent};
use crate::datastore::Datastore;
use crate::error::Error;
use crate::machine::Machine;
use crate::process::kill_all_in;
use crate::spec::ClusterSpec;

/// A running cluster. Cheap to clone; it is taken down when the last handle on it, or on one of
/// its nodes or pods, is dropped.
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    fabric: Machine,
    nodes: Vec<node::NodeState>,
    pods: Vec<pod::PodState>,
    agent: Arc<dyn Agent>,
    datastore: Datastore,
    report: BootReport,
    /// The cluster's files on the sandbox's tmpfs; removed with the cluster.
    _state: TempDir,
}

impl Cluster {
    /// Starts a specification; finish it with [`ClusterSpec::boot`].
    pub fn builder() -> ClusterSpec {
        ClusterSpec::default()
    }

    /// The node `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that there are.
    pub fn node(&self, name: &str) -> Result<Node, Error> {
        let index = self
            .inner
            .nodes
            .iter()
            .position(|node| node.machine.name() == name);
        index
            .map(|index| Node::new(&self.inner, index))
            .ok_or_else(|| {
                Error::unknown(
                    "node",
                    name,
                    self.inner.nodes.iter().map(|node| node.machine.name()),
                )
            })
    }

    /// The pod `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that there are.
    pub fn pod(&self, name: &str) -> Result<Pod, Error> {
        let index = self
            .inner
            .pods
            .iter()
            .position(|pod| pod.machine.name() == name);
        index
            .map(|index| Pod::new(&self.inner, index))
            .ok_or_else(|| {
                Error::unknown(
                    "pod",
                    name,
                    self.inner.pods.iter().map(|pod| pod.machine.name()),
                )
            })
    }

    /// All nodes, in the order of the specification.
    pub fn nodes(&self) -> Vec<Node> {
        (0..self.inner.nodes.len())
            .map(|index| Node::new(&self.inner, index))
            .collect()
    }

    /// All pods, in the order of the specification.
    pub fn pods(&self) -> Vec<Pod> {
        (0..self.inner.pods.len())
            .map(|index| Pod::new(&self.inner, index))
            .collect()
    }

    /// The machine between the nodes: a bridge for each underlay network, and the gateway.
    pub fn fabric(&self) -> &Machine {
        &self.inner.fabric
    }

    /// What the agents read.
    pub fn datastore(&self) -> &Datastore {
        &self.inner.datastore
    }

    /// Where the time of the boot went.
    pub fn boot_report(&self) -> &BootReport {
        &self.inner.report
    }

    /// Stops every agent in the orderly way.
    ///
    /// # Errors
    /// The first agent that had ended by itself, failed, or did not stop; the others are stopped
    /// all the same.
    pub async fn shutdown(self) -> Result<(), Error> {
        let mut result = Ok(());
        for node in self.nodes() {
            let stopped = match node.is_agent_running() {
                true => node.stop_agent().await,
                false => Ok(()),
            };
            result = result.and(stopped);
        }
        result
    }
}

impl ClusterSpec {
    /// Boots the cluster with `podlab-agent` in every node; returns when all of them are ready.
    ///
    /// # Errors
    /// All faults of the specification, before anything is made; otherwise the first thing that
    /// failed. Nothing stays behind.
    pub async fn boot(self) -> Result<Cluster, Error> {
        self.boot_with(PodlabAgent::new()).await
    }

    /// [`boot`](Self::boot) with an agent of your own.
    ///
    /// # Errors
    /// The same.
    pub async fn boot_with(self, agent: impl Agent + 'static) -> Result<Cluster, Error> {
        boot::boot(&self.plan()?, Arc::new(agent)).await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let machines = self.nodes.iter().map(|node| &node.machine);
        let machines = machines.chain(self.pods.iter().map(|pod| &pod.machine));
        let inodes: BTreeSet<u64> = machines
            .chain([&self.fabric])
            .map(|machine| machine.namespaces().net_inode())
            .collect();
        for node in &self.nodes {
            // Our own children first: their exit is collected, the others are init's.
            node.agent
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        kill_all_in(&inodes);
    }
}
