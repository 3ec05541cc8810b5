//! A specification that was found good: typed, complete, every default filled in.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha1::{Digest, Sha1};

use super::{ClusterSpec, Encapsulation, PoolSpec, UnderlaySpec};
use crate::netlink::MacAddress;

/// A cluster that can be booted. The default is the one of which nothing is there yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) underlays: Vec<UnderlayPlan>,
    pub(crate) pools: Vec<PoolPlan>,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) pods: Vec<PodPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnderlayPlan {
    /// The bridge's name in the fabric.
    pub(crate) bridge: String,
    /// The gateway's address with the network's prefix.
    pub(crate) gateway: Ipv4Net,
    pub(crate) mtu: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolPlan {
    pub(crate) name: String,
    pub(crate) cidr: Ipv4Net,
    pub(crate) block_size: u8,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) nat_outgoing: bool,
    pub(crate) tunnel_mtu: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) address: Ipv4Net,
    /// The interface that has the node's address.
    pub(crate) underlay: InterfacePlan,
    pub(crate) others: Vec<InterfacePlan>,
    pub(crate) blocks: Vec<Ipv4Net>,
    pub(crate) tunnel_address: Option<Ipv4Addr>,
    /// Its agent is not started with it.
    pub(crate) agent_later: bool,
}

/// A node's interface on a network of the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterfacePlan {
    pub(crate) name: String,
    pub(crate) address: Option<Ipv4Net>,
    pub(crate) mtu: u32,
    /// The place of its network in [`Plan::underlays`].
    pub(crate) network: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodPlan {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) address: Ipv4Addr,
    /// The name of its node.
    pub(crate) node: String,
    /// The MTU of its `eth0` in bytes, where no agent says another.
    pub(crate) mtu: u32,
    pub(crate) containers: Vec<ContainerPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerPlan {
    pub(crate) name: String,
    pub(crate) http: Option<u16>,
}

impl Plan {
    /// Writes into `spec`, from which this plan was made, what was left to the plan: a later
    /// change of one thing must not choose anew for all the others.
    pub(crate) fn settle(&self, spec: &mut ClusterSpec) {
        let given: Vec<Option<u32>> = spec.underlays.iter().map(|given| given.mtu).collect();
        let underlays = self.underlays.iter().enumerate();
        spec.underlays = underlays
            .map(|(index, underlay)| UnderlaySpec {
                network: underlay.gateway.trunc().to_string(),
                gateway: Some(underlay.gateway.addr().to_string()),
                mtu: given.get(index).copied().flatten(),
            })
            .collect();
        if spec.pools.is_empty() {
            spec.pools = self.pools.iter().map(PoolPlan::to_spec).collect();
        }
        for (node, plan) in spec.nodes.iter_mut().zip(&self.nodes) {
            node.tunnel_address = plan.tunnel_address.map(|address| address.to_string());
        }
    }
}

impl PoolPlan {
    fn to_spec(&self) -> PoolSpec {
        PoolSpec {
            name: self.name.clone(),
            cidr: self.cidr.to_string(),
            block_size: self.block_size,
            encapsulation: self.encapsulation,
            nat_outgoing: self.nat_outgoing,
            tunnel_mtu: self.tunnel_mtu,
        }
    }
}

impl NodePlan {
    /// All interfaces, the one that has the node's address first.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &InterfacePlan> {
        std::iter::once(&self.underlay).chain(&self.others)
    }

    pub(super) fn interfaces_mut(&mut self) -> impl Iterator<Item = &mut InterfacePlan> {
        std::iter::once(&mut self.underlay).chain(&mut self.others)
    }
}

impl PodPlan {
    pub(crate) fn mac(&self) -> MacAddress {
        MacAddress::of(b'P', self.address)
    }

    /// The name of the host's side of the pod's veth pair: `cali` and the first 11 hexadecimal
    /// digits of the SHA-1 of `namespace.pod`, as Calico's CNI plugin names it.
    pub(crate) fn host_interface(&self) -> String {
        let digest = Sha1::digest(format!("{}.{}", self.namespace, self.name));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("cali{}", &hex[..11])
    }
}
