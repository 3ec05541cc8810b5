//! A node: a machine on the underlay in which an agent runs.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;

use super::Hold;
use super::port::Port;
use crate::agent::{AgentStatus, RunningAgent};
use crate::capture::Tap;
use crate::datastore::Datastore;
use crate::error::Error;
use crate::fault::{End, Wire, WireKind};
use crate::machine::Machine;
use crate::process::Program;
use crate::spec::NodePlan;

/// Where a node finds the cluster's datastore.
pub(crate) const DATASTORE_IN_NODE: &str = "/run/podlab/datastore";

/// A handle on a node. It has all the verbs of a [`Machine`].
///
/// Nodes can change while they run; what the handle says is what holds now. When the node is
/// removed from the cluster its verbs become [`Error::Removed`], and its properties stay what
/// they were last.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) cluster: Arc<Hold>,
    pub(super) state: Arc<NodeState>,
}

#[derive(Debug)]
pub(super) struct NodeState {
    pub(super) machine: Machine,
    /// The wires of its interfaces.
    pub(super) ports: Vec<Port>,
    pub(super) log: PathBuf,
    plan: Mutex<Arc<NodePlan>>,
    /// Empty while no agent runs.
    agent: Mutex<Option<RunningAgent>>,
    /// What the last agent said when it became ready.
    status: Mutex<AgentStatus>,
}

impl NodeState {
    pub(super) fn new(machine: Machine, plan: &NodePlan, ports: Vec<Port>, log: PathBuf) -> Self {
        Self {
            machine,
            ports,
            log,
            plan: Mutex::new(Arc::new(plan.clone())),
            agent: Mutex::default(),
            status: Mutex::default(),
        }
    }

    pub(super) fn plan(&self) -> Arc<NodePlan> {
        Arc::clone(&lock(&self.plan))
    }

    pub(super) fn is_now(&self, plan: &NodePlan) {
        *lock(&self.plan) = Arc::new(plan.clone());
    }

    /// The wire of an interface.
    pub(super) fn port(&self, interface: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.interface == interface)
    }

    pub(super) fn has_agent(&self, agent: RunningAgent, status: AgentStatus) {
        *lock(&self.status) = status;
        *lock(&self.agent) = Some(agent);
    }

    pub(super) fn take_agent(&self) -> Option<RunningAgent> {
        lock(&self.agent).take()
    }

    pub(super) async fn kill_agent(&self) -> Result<(), Error> {
        match self.take_agent() {
            Some(agent) => Ok(agent.kill().await?),
            None => Ok(()),
        }
    }
}

impl Node {
    /// Its address on the underlay.
    pub fn address(&self) -> Ipv4Addr {
        self.state.plan().address.addr()
    }

    pub(crate) fn agent_comes_later(&self) -> bool {
        self.state.plan().agent_later
    }

    pub(crate) fn address_with_prefix(&self) -> String {
        self.state.plan().address.to_string()
    }

    /// The name of its underlay interface: the one that has its address.
    pub fn underlay(&self) -> String {
        self.state.plan().underlay.name.clone()
    }

    /// The name of its port in the [fabric](super::Cluster::fabric): the other end of its
    /// underlay interface.
    pub fn fabric_port(&self) -> String {
        let port = self.state.port(&self.state.plan().underlay.name);
        port.map(|port| port.name.clone()).unwrap_or_default()
    }

    /// The names of all its ports in the fabric, in the order of its interfaces.
    pub(crate) fn fabric_ports(&self) -> Vec<String> {
        let ports = self.state.ports.iter();
        ports.map(|port| port.name.clone()).collect()
    }

    pub(crate) fn datastore(&self) -> &Datastore {
        &self.cluster.datastore
    }

    pub(crate) fn cluster_fabric(&self) -> &Machine {
        &self.cluster.fabric
    }

    /// The wire from its underlay interface to the fabric.
    ///
    /// # Errors
    /// When the node was removed.
    pub fn wire(&self) -> Result<Wire, Error> {
        self.wire_of(&self.underlay())
    }

    /// The wire from one of its interfaces to the fabric.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn wire_of(&self, interface: &str) -> Result<Wire, Error> {
        let ports = &self.live()?.state.ports;
        let known = ports.iter().map(|port| port.interface.as_str());
        let port = self
            .state
            .port(interface)
            .ok_or_else(|| Error::unknown("interface", interface, known))?;
        Ok(Wire {
            near: End {
                machine: self.state.machine.clone(),
                device: port.interface.clone(),
            },
            far: End {
                machine: self.cluster.fabric.clone(),
                device: port.name.clone(),
            },
            kind: WireKind::Node,
        })
    }

    /// The name of a capture on its underlay interface.
    pub fn underlay_tap(&self) -> Tap {
        self.tap(self.underlay())
    }

    /// The name of a capture on its tunnel device.
    pub fn tunnel_tap(&self) -> Tap {
        self.tap(self.cluster.agent.tunnel_device())
    }

    /// The name of a capture on its port in the fabric.
    pub fn fabric_tap(&self) -> Tap {
        self.cluster.fabric.tap(self.fabric_port())
    }

    /// The address of its tunnel device.
    pub fn tunnel_address(&self) -> Option<Ipv4Addr> {
        self.state.plan().tunnel_address
    }

    /// The blocks of pod addresses that it owns.
    pub fn blocks(&self) -> Vec<Ipv4Net> {
        self.state.plan().blocks.clone()
    }

    /// What its agent said when it last became ready.
    pub fn agent_status(&self) -> AgentStatus {
        lock(&self.state.status).clone()
    }

    /// Everything that its agents have written to standard output and standard error.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn agent_log(&self) -> Result<String, Error> {
        let path = &self.live()?.state.log;
        std::fs::read_to_string(path).map_err(|source| Error::State {
            operation: "read",
            path: path.clone(),
            source,
        })
    }

    /// Whether an agent was started and not stopped since.
    pub fn is_agent_running(&self) -> bool {
        lock(&self.state.agent).is_some()
    }

    /// The process id of its agent in the sandbox; `None` while none runs.
    pub fn agent_id(&self) -> Option<u32> {
        lock(&self.state.agent).as_ref()?.id()
    }

    /// How to ask its agent what it wants and what the kernel has.
    pub(crate) fn agent_status_program(&self) -> Option<Program> {
        let agent = &self.cluster.agent;
        agent.status_program(self.name(), Path::new(DATASTORE_IN_NODE))
    }

    /// Starts the agent and waits until it is ready. One that runs is killed first.
    ///
    /// # Errors
    /// When it does not become ready; the end of its log is in the message.
    pub async fn start_agent(&self) -> Result<AgentStatus, Error> {
        self.kill_agent().await?;
        let mut agent = RunningAgent::start(
            self.cluster.agent.as_ref(),
            &self.state.machine,
            Path::new(DATASTORE_IN_NODE),
            &self.state.log,
        )?;
        let status = agent.ready().await?;
        self.state.has_agent(agent, status.clone());
        Ok(status)
    }

    /// Asks the agent to stop and waits until it has. The node's network stays as it is.
    ///
    /// # Errors
    /// When it had ended by itself, fails, or does not end in time.
    pub async fn stop_agent(&self) -> Result<(), Error> {
        match self.live()?.state.take_agent() {
            Some(agent) => Ok(agent.stop().await?),
            None => Ok(()),
        }
    }

    /// Kills the agent as a crash would. The node's network stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn kill_agent(&self) -> Result<(), Error> {
        self.live()?.state.kill_agent().await
    }

    pub(crate) fn live(&self) -> Result<&Self, Error> {
        self.state.machine.live().map(|_| self)
    }
}

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.state.machine
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
