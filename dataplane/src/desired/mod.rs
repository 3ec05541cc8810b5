//! What a node's kernel has to hold: a pure function of the datastore.
//!
//! It speaks of the node's underlay interface, tunnel and pods without knowing their interface
//! indices or which backend makes the tunnel; `apply` fills that in from what
//! the kernel reports.

mod mtu;
#[cfg(test)]
mod order;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::datastore::{InterfacePattern, Snapshot};
use crate::mac::Mac;

pub use mtu::{Interface, TunnelMtu, underlay_mtu};

/// The state to bring the kernel of one node to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The node's own underlay address; the interface that carries it is the underlay.
    pub address: Ipv4Net,
    /// Always there, ready to receive.
    pub tunnel: Tunnel,
    /// Who tunnel packets are exchanged with.
    pub peers: Peers,
    /// Routes of the main table by destination.
    pub routes: BTreeMap<Ipv4Net, Target>,
    /// The host's ends of the local pods' veth pairs.
    pub interfaces: BTreeSet<String>,
    /// Permanent neighbours on those interfaces.
    pub neighbours: BTreeMap<(String, Ipv4Addr), Mac>,
    /// The source addresses that each local pod may use, by its interface.
    pub pod_sources: BTreeSet<(String, Ipv4Addr)>,
    /// The address pools.
    pub pools: Pools,
    /// Interfaces whose MTU counts besides that of the one with the node's address.
    pub mtu_interfaces: InterfacePattern,
}

/// Who tunnel packets are accepted from and sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Underlay addresses of all other nodes.
    pub nodes: BTreeSet<Ipv4Addr>,
    /// Senders that are no nodes of the cluster, as `config.json` lists them.
    pub external: BTreeSet<Ipv4Net>,
}

impl Peers {
    /// Whether tunnel packets from `address` are accepted.
    #[must_use]
    pub fn accept(&self, address: Ipv4Addr) -> bool {
        self.nodes.contains(&address) || self.external.iter().any(|net| net.contains(&address))
    }

    /// All of them.
    #[must_use]
    pub fn prefixes(&self) -> BTreeSet<Ipv4Net> {
        let nodes = self.nodes.iter().map(|&address| address.into());
        nodes.chain(self.external.iter().copied()).collect()
    }
}

/// The address pools, which may contain each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    /// All of them: what goes from one to another keeps its source.
    pub all: BTreeSet<Ipv4Net>,
    /// Those whose packets get the node's source when they leave all pools.
    pub nat_outgoing: BTreeSet<Ipv4Net>,
}

/// The tunnel device.
///
/// It is there in every mode. Nodes hear of another mode one after the other, and those that do
/// first must not send into the void: in `never`, too, packets of known nodes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Whether some pool encapsulates.
    pub in_use: bool,
    /// Its only address, as a /32; none while it is not in use.
    pub address: Option<Ipv4Addr>,
    /// Its MTU.
    pub mtu: TunnelMtu,
}

impl Tunnel {
    fn new(snapshot: &Snapshot, address: Option<Ipv4Addr>) -> Self {
        let mtu = TunnelMtu::of(snapshot);
        Self {
            in_use: mtu.is_some(),
            address: address.filter(|_| mtu.is_some()),
            mtu: mtu.unwrap_or_default(),
        }
    }

    /// The MTU in bytes of pods that are wired from now on, on an underlay whose own is
    /// `underlay`: the tunnel's where it is in use, else the underlay's (`determinePodMTU` in
    /// Felix).
    #[must_use]
    pub fn pod_mtu(&self, underlay: u32) -> u32 {
        match self.in_use {
            true => self.mtu.on(underlay),
            false => underlay,
        }
    }
}

/// Where packets to a destination go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere: an address of an own block that no pod has.
    Blackhole,
    /// To the local pod behind this interface.
    Pod(String),
    /// To the node with this underlay address, through the tunnel.
    Tunnel(Ipv4Addr),
    /// To the node with this underlay address, as they are.
    Underlay(Ipv4Addr),
}

/// The datastore does not know the node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {name}: is not in the datastore\nhint: it needs a file nodes/{name}.json; known nodes are: {}",
    list(known)
)]
pub struct UnknownNode {
    name: String,
    known: Vec<String>,
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl Desired {
    /// What the kernel of node `name` has to hold for `snapshot`.
    ///
    /// Where files contradict each other the same one wins on every node and in every order of
    /// events: what is local before what is remote, then the lower name.
    ///
    /// # Errors
    /// [`UnknownNode`] when the datastore has no node of that name.
    pub fn compute(snapshot: &Snapshot, name: &str) -> Result<Self, UnknownNode> {
        let Some(node) = snapshot.nodes.get(name) else {
            let known = snapshot.nodes.keys().cloned().collect();
            return Err(UnknownNode {
                name: name.to_owned(),
                known,
            });
        };
        let others = || snapshot.nodes.iter().filter(|(other, _)| *other != name);
        let local = routes::local_addresses(snapshot, name);
        Ok(Self {
            address: node.address,
            tunnel: Tunnel::new(snapshot, node.tunnel_address),
            peers: Peers {
                nodes: others()
                    .map(|(_, other)| other.address.addr())
                    .filter(|address| *address != node.address.addr())
                    .collect(),
                external: snapshot.config.external_nodes.clone(),
            },
            routes: routes::compute(snapshot, name, node, &local),
            interfaces: routes::local_endpoints(snapshot, name)
                .map(|endpoint| endpoint.interface.clone())
                .collect(),
            neighbours: local
                .iter()
                .filter_map(|(&address, endpoint)| {
                    Some(((endpoint.interface.clone(), address), endpoint.mac?))
                })
                .collect(),
            // All that a pod claims, also where another pod has the route: replies of both are
            // no forgeries.
            pod_sources: routes::local_endpoints(snapshot, name)
                .flat_map(|endpoint| {
                    let interface = &endpoint.interface;
                    let addresses = endpoint.addresses.iter();
                    addresses.map(|&address| (interface.clone(), address))
                })
                .collect(),
            pools: Pools {
                all: snapshot.pools.values().map(|pool| pool.cidr).collect(),
                nat_outgoing: snapshot
                    .pools
                    .values()
                    .filter(|pool| pool.nat_outgoing)
                    .map(|pool| pool.cidr)
                    .collect(),
            },
            mtu_interfaces: snapshot.config.mtu_interface_pattern.clone(),
        })
    }
}
