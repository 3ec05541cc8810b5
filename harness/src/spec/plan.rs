//! A specification that was found good: typed, complete, every default filled in.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha1::{Digest, Sha1};

use super::Encapsulation;
use crate::netlink::MacAddress;

/// A cluster that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub(crate) interface: String,
    pub(crate) mtu: u32,
    pub(crate) blocks: Vec<Ipv4Net>,
    pub(crate) tunnel_address: Option<Ipv4Addr>,
    /// The place of its network in [`Plan::underlays`].
    pub(crate) underlay: usize,
    /// The name of its port in the fabric.
    pub(crate) port: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodPlan {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) address: Ipv4Addr,
    /// The place of its node in [`Plan::nodes`].
    pub(crate) node: usize,
    /// The MTU of its `eth0` in bytes.
    pub(crate) mtu: u32,
    pub(crate) containers: Vec<ContainerPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerPlan {
    pub(crate) name: String,
    pub(crate) http: Option<u16>,
}

impl NodePlan {
    pub(crate) fn mac(&self) -> MacAddress {
        MacAddress::of(b'N', self.address.addr())
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
