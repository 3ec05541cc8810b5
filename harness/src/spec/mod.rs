//! What a cluster shall be, before anything touches the kernel.
//!
//! A [`ClusterSpec`] is a plain serde value: builders fill it, scenario files can fill it too.
//! Addresses are texts in it, so that one that is no address is a fault with a name like any
//! other. [`ClusterSpec::validate`] checks the whole and reports all faults at once.

mod builder;
mod check;
mod fault;
mod fields;
mod plan;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use builder::{InterfaceBuilder, NodeBuilder, PodBuilder, PoolBuilder, UnderlayBuilder};
pub use fault::{SpecError, SpecFault};
pub(crate) use plan::{
    ContainerPlan, InterfacePlan, NodePlan, Plan, PodPlan, PoolPlan, UnderlayPlan,
};

/// A whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSpec {
    /// The networks that join the nodes. One that is not listed is made from the nodes' addresses.
    pub underlays: Vec<UnderlaySpec>,
    /// The address pools of the pods. None listed means one that spans 192.168.0.0/16.
    pub pools: Vec<PoolSpec>,
    /// The machines.
    pub nodes: Vec<NodeSpec>,
    /// What runs on them.
    pub pods: Vec<PodSpec>,
}

/// A network that joins nodes: a bridge of the fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnderlaySpec {
    /// The network, `10.12.0.0/16`.
    pub network: String,
    /// The fabric's own address in it, the nodes' default gateway. Default: the first that no
    /// node has.
    #[serde(default)]
    pub gateway: Option<String>,
    /// The MTU of its bridge in bytes. Default: the largest of its nodes' interfaces.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// A range of pod addresses and how they are reached from other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// The name, `default-pool`.
    pub name: String,
    /// The range, `192.168.0.0/16`.
    pub cidr: String,
    /// The prefix length of one block.
    pub block_size: u8,
    /// When packets between nodes are encapsulated.
    pub encapsulation: Encapsulation,
    /// Whether packets to addresses outside all pools leave with the node's address.
    #[serde(default)]
    pub nat_outgoing: bool,
    /// The tunnel's and the pods' MTU in bytes. Default: 20 less than the underlay's.
    #[serde(default)]
    pub tunnel_mtu: Option<u32>,
}

/// When packets between nodes are encapsulated, Calico's `ipipMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encapsulation {
    /// Between any two nodes.
    #[default]
    Always,
    /// Between nodes of different underlay subnets only.
    CrossSubnet,
    /// Never: plain routing.
    Never,
}

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its name, which is its hostname.
    pub name: String,
    /// Its address on the underlay with the prefix, `10.12.22.2/16`.
    pub address: String,
    /// The name of its underlay interface.
    #[serde(default = "default_interface")]
    pub interface: String,
    /// The MTU of that interface in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Its other interfaces.
    #[serde(default)]
    pub interfaces: Vec<InterfaceSpec>,
    /// The blocks of pod addresses it owns, `192.168.1.0/24`.
    #[serde(default)]
    pub blocks: Vec<String>,
    /// The address of its tunnel device. Default: the first address of its first block.
    #[serde(default)]
    pub tunnel_address: Option<String>,
    /// It boots without its agent, which is started later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub agent_later: bool,
}

/// An interface that a node has beside the one with its address. It is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSpec {
    /// Its name.
    pub name: String,
    /// Its address with the prefix, `10.13.0.2/16`, which says what network it is plugged into.
    /// Default: none, and plugged into the network of the node's address.
    #[serde(default)]
    pub address: Option<String>,
    /// Its MTU in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// Its name, which is its hostname; unique in the cluster.
    pub name: String,
    /// Its Kubernetes namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The node it runs on.
    pub node: String,
    /// Its address, `192.168.1.12`.
    pub address: String,
    /// The containers, which share the pod's network. None listed means one without a service.
    #[serde(default)]
    pub containers: Vec<ContainerSpec>,
}

/// A container: a named group of processes of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Its name, unique in the pod.
    pub name: String,
    /// The TCP port on which it answers HTTP with `<p>Hi from HOSTNAME</p>`.
    #[serde(default)]
    pub http: Option<u16>,
}

fn default_interface() -> String {
    "eth0".to_owned()
}

fn default_mtu() -> u32 {
    1500
}

fn default_namespace() -> String {
    "default".to_owned()
}
