//! A running cluster and the handles on its nodes and pods.

mod boot;
mod change;
mod container;
mod difference;
mod files;
mod hold;
mod node;
mod pod;
mod port;
mod power;
mod timing;
mod wiring;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tempfile::TempDir;

pub use container::Container;
pub(crate) use hold::Hold;
pub(crate) use node::DATASTORE_IN_NODE;
pub use node::Node;
pub use pod::Pod;
pub use timing::BootReport;

use crate::agent::{Agent, PodlabAgent};
use crate::backlog;
use crate::bundle::scope::Scope;
use crate::capture::CaptureBuilder;
use crate::datastore::Datastore;
use crate::error::Error;
use crate::event::EventLog;
use crate::fault::Faults;
use crate::machine::Machine;
use crate::process::kill_all_in;
use crate::spec::{ClusterSpec, Plan};
use files::Files;
use node::NodeState;
use pod::PodState;

/// A running cluster. Cheap to clone; it is taken down when the last handle on it, or on one of
/// its nodes or pods, is dropped.
///
/// In a [`#[podlab::test]`](crate::test) this happens at the next await after that, or at the end
/// of the test: by then it is known whether the test has failed, and then the cluster is kept
/// until the [evidence](crate::bundle) is collected.
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Arc<Hold>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    fabric: Machine,
    world: RwLock<World>,
    /// Held while a change is made: there is one at a time.
    current: tokio::sync::Mutex<Current>,
    files: Files,
    agent: Arc<dyn Agent>,
    datastore: Datastore,
    events: EventLog,
    faults: Faults,
    report: BootReport,
    /// What the machine had no time for since the boot began.
    backlog: backlog::Watch,
    /// The test that it belongs to, if somebody watches over one.
    scope: Option<Arc<Scope>>,
    /// The cluster's files on the sandbox's tmpfs; removed with the cluster.
    _state: TempDir,
}

/// The nodes and pods that there are now, in the order of the specification.
#[derive(Debug, Default)]
struct World {
    nodes: Vec<Arc<NodeState>>,
    pods: Vec<Arc<PodState>>,
}

/// What the cluster shall be now: the specification of the boot with every change since.
#[derive(Debug, Default)]
struct Current {
    spec: ClusterSpec,
    plan: Plan,
}

impl Cluster {
    /// A handle on a cluster that nobody may have a handle on any more.
    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self {
            inner: Hold::new(inner),
        }
    }

    /// Starts a specification; finish it with [`ClusterSpec::boot`].
    pub fn builder() -> ClusterSpec {
        ClusterSpec::default()
    }

    /// The node `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that there are.
    pub fn node(&self, name: &str) -> Result<Node, Error> {
        Ok(self.node_handle(self.inner.node_state(name)?))
    }

    /// The pod `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that there are.
    pub fn pod(&self, name: &str) -> Result<Pod, Error> {
        Ok(Pod::new(&self.inner, self.inner.pod_state(name)?))
    }

    /// All nodes, in the order of the specification; those that were added later are last.
    pub fn nodes(&self) -> Vec<Node> {
        let nodes = self.inner.world().nodes.clone();
        let nodes = nodes.into_iter();
        nodes.map(|state| self.node_handle(state)).collect()
    }

    /// All pods, in the order of the specification; those that were added later are last.
    pub fn pods(&self) -> Vec<Pod> {
        let pods = self.inner.world().pods.clone();
        let pods = pods.into_iter();
        pods.map(|state| Pod::new(&self.inner, state)).collect()
    }

    fn node_handle(&self, state: Arc<NodeState>) -> Node {
        Node {
            cluster: Arc::clone(&self.inner),
            state,
        }
    }

    /// The machine between the nodes: a bridge for each underlay network, and the gateway.
    pub fn fabric(&self) -> &Machine {
        &self.inner.fabric
    }

    /// What the cluster shall be now. Waits for a change that is being made.
    pub(crate) async fn plan(&self) -> Plan {
        self.inner.current.lock().await.plan.clone()
    }

    /// The specification of the boot with every change since.
    pub(crate) async fn spec(&self) -> ClusterSpec {
        self.inner.current.lock().await.spec.clone()
    }

    /// The test that it belongs to, if somebody watches over one.
    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.inner.scope.as_ref()
    }

    /// The tunnel device of every node.
    pub(crate) fn tunnel_device(&self) -> String {
        self.inner.agent.tunnel_device().to_owned()
    }

    /// Starts to choose devices for a [capture set](crate::capture::CaptureSet).
    pub fn capture(&self) -> CaptureBuilder {
        CaptureBuilder::new(self.clone())
    }

    /// What the agents read.
    pub fn datastore(&self) -> &Datastore {
        &self.inner.datastore
    }

    /// Everything that the harness has done and seen of this cluster.
    pub fn events(&self) -> &EventLog {
        &self.inner.events
    }

    /// The faults that were put in and not healed yet.
    pub(crate) fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// What the machine had no time for since the boot began.
    pub(crate) fn backlog(&self) -> backlog::Watch {
        self.inner.backlog
    }

    /// The ports in the fabric that lead to a node's interface on this network.
    pub(crate) async fn ports_on(&self, network: ipnet::Ipv4Net) -> Vec<String> {
        let current = self.inner.current.lock().await;
        let mut underlays = current.plan.underlays.iter();
        let Some(index) = underlays.position(|underlay| underlay.gateway.trunc() == network) else {
            return Vec::new();
        };
        let world = self.inner.world();
        let wires = world.nodes.iter().flat_map(|node| {
            let plan = node.plan();
            let here = plan.interfaces().filter(|i| i.network == index);
            let ports = here.filter_map(|i| Some(node.port(&i.name)?.name.clone()));
            ports.collect::<Vec<_>>()
        });
        wires.collect()
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

    /// [`boot`](Self::boot) with an agent of your own. It may be another one on every node:
    /// [`Agent::program`] is told the node's name.
    ///
    /// # Errors
    /// The same.
    pub async fn boot_with(self, agent: impl Agent + 'static) -> Result<Cluster, Error> {
        boot::boot(self, Arc::new(agent)).await
    }
}

impl Inner {
    fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn world_mut(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_node(&self, name: &str) -> Option<Arc<NodeState>> {
        let world = self.world();
        let mut nodes = world.nodes.iter();
        nodes.find(|node| node.machine.name() == name).cloned()
    }

    fn find_pod(&self, name: &str) -> Option<Arc<PodState>> {
        let world = self.world();
        let mut pods = world.pods.iter();
        pods.find(|pod| pod.machine.name() == name).cloned()
    }

    fn node_state(&self, name: &str) -> Result<Arc<NodeState>, Error> {
        self.find_node(name).ok_or_else(|| {
            let world = self.world();
            let known = world.nodes.iter().map(|node| node.machine.name());
            Error::unknown("node", name, known)
        })
    }

    fn pod_state(&self, name: &str) -> Result<Arc<PodState>, Error> {
        self.find_pod(name).ok_or_else(|| {
            let world = self.world();
            let known = world.pods.iter().map(|pod| pod.machine.name());
            Error::unknown("pod", name, known)
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.faults.forget();
        let world = self.world();
        let machines = world.nodes.iter().map(|node| &node.machine);
        let machines = machines.chain(world.pods.iter().map(|pod| &pod.machine));
        let inodes: BTreeSet<u64> = machines
            .chain([&self.fabric])
            .map(|machine| machine.namespaces().net_inode())
            .collect();
        for node in &world.nodes {
            // Our own children first: their exit is collected, the others are init's.
            drop(node.take_agent());
        }
        kill_all_in(&inodes);
    }
}
