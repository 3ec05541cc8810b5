//! Who has which address, and by which devices a packet has to go.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::point::Point;
use crate::capture::Direction;
use crate::spec::{Encapsulation, NodePlan, Plan, PodPlan};

/// The device of every pod.
const POD_DEVICE: &str = "eth0";
/// The machine between the nodes.
pub(super) const FABRIC: &str = "fabric";
/// The ttl that Linux gives to what it sends.
const TTL: u8 = 64;

/// What a path is worked out from.
#[derive(Debug, Clone, Default)]
pub(super) struct Topology {
    pub(super) plan: Plan,
    /// The port of each node in the fabric.
    pub(super) ports: BTreeMap<String, String>,
    /// The tunnel device of every node.
    pub(super) tunnel: String,
}

/// One end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Party {
    Pod(String),
    Node(String),
    /// The fabric, and whatever else is outside of the cluster.
    Outside,
    /// An address of a node's block that no pod has: the node must drop what is sent there.
    Unassigned(String),
}

/// A device that the packet has to pass, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Station {
    pub(super) point: Point,
    pub(super) direction: Direction,
    /// The outer addresses, where it must be encapsulated.
    pub(super) outer: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The ttl of the innermost header.
    pub(super) ttl: u8,
    /// Whose hardware address the frame must bear.
    pub(super) frame_to: Option<Point>,
    /// The next hop that the machine has to choose, where it routes here.
    pub(super) next_hop: Option<Ipv4Addr>,
}

impl Topology {
    /// Who has an address.
    pub(super) fn party(&self, address: Ipv4Addr) -> Party {
        let plan = &self.plan;
        if let Some(pod) = plan.pods.iter().find(|pod| pod.address == address) {
            return Party::Pod(pod.name.clone());
        }
        let own = |node: &&NodePlan| {
            node.address.addr() == address || node.tunnel_address == Some(address)
        };
        if let Some(node) = plan.nodes.iter().find(own) {
            return Party::Node(node.name.clone());
        }
        let mut nodes = plan.nodes.iter();
        let owner = nodes.find(|node| node.blocks.iter().any(|block| block.contains(&address)));
        owner.map_or(Party::Outside, |node| Party::Unassigned(node.name.clone()))
    }

    /// The block of a node that an address is in.
    pub(super) fn block_of(&self, address: Ipv4Addr) -> Option<Ipv4Net> {
        let mut blocks = self.plan.nodes.iter().flat_map(|node| &node.blocks);
        blocks.find(|block| block.contains(&address)).copied()
    }

    pub(super) fn node(&self, name: &str) -> Option<&NodePlan> {
        self.plan.nodes.iter().find(|node| node.name == name)
    }

    fn pod(&self, name: &str) -> Option<&PodPlan> {
        self.plan.pods.iter().find(|pod| pod.name == name)
    }

    /// The address of the pod of this name.
    pub(super) fn address_of(&self, pod: &str) -> Option<Ipv4Addr> {
        self.pod(pod).map(|pod| pod.address)
    }

    /// The node at which a path begins or ends; `None` outside.
    fn node_of(&self, party: &Party) -> Option<&NodePlan> {
        match party {
            Party::Pod(name) => self.node(&self.pod(name)?.node),
            Party::Node(name) | Party::Unassigned(name) => self.node(name),
            Party::Outside => None,
        }
    }

    /// Whether packets to `destination` take the tunnel between two nodes.
    fn by_tunnel(&self, from: &NodePlan, to: &NodePlan, destination: Ipv4Addr) -> bool {
        let mut pools = self.plan.pools.iter();
        let pool = pools.find(|pool| pool.cidr.contains(&destination));
        match pool.map(|pool| pool.encapsulation) {
            Some(Encapsulation::Always) => true,
            Some(Encapsulation::CrossSubnet) => from.underlay.network != to.underlay.network,
            Some(Encapsulation::Never) | None => false,
        }
    }

    /// The stations of a packet to `destination`, in their order.
    pub(super) fn path(&self, from: &Party, to: &Party, destination: Ipv4Addr) -> Vec<Station> {
        let mut walk = Walk::default();
        let (first, last) = (self.node_of(from), self.node_of(to));
        if let (Party::Pod(name), Some(node)) = (from, first)
            && let Some(pod) = self.pod(name)
        {
            let outside = Point::new(&node.name, pod.host_interface());
            walk.out(Point::new(name, POD_DEVICE), Some(outside.clone()));
            walk.come_in(outside);
            walk.routed = true;
        }
        let same = first.map(|node| &node.name) == last.map(|node| &node.name);
        if !same {
            self.cross(&mut walk, first, last, destination);
        }
        if let (Party::Pod(name), Some(node)) = (to, last)
            && let Some(pod) = self.pod(name)
        {
            walk.forward();
            let inside = Point::new(name, POD_DEVICE);
            walk.next_hop = Some(destination);
            walk.out(
                Point::new(&node.name, pod.host_interface()),
                Some(inside.clone()),
            );
            walk.come_in(inside);
        }
        walk.stations
    }

    /// From one node to another, or to or from what is outside.
    fn cross(
        &self,
        walk: &mut Walk,
        first: Option<&NodePlan>,
        last: Option<&NodePlan>,
        destination: Ipv4Addr,
    ) {
        let port = |node: &NodePlan| {
            let port = self.ports.get(&node.name).cloned();
            Point::new(FABRIC, port.unwrap_or_default())
        };
        let underlay = |node: &NodePlan| Point::new(&node.name, &node.underlay.name);
        let network = |node: &NodePlan| node.underlay.network;
        let mut tunnel = None;
        if let Some(node) = first {
            walk.forward();
            let bridge = self.plan.underlays.get(network(node));
            let gateway = bridge.map(|bridge| bridge.gateway.addr());
            if let Some(other) = last.filter(|other| self.by_tunnel(node, other, destination)) {
                tunnel = Some(Point::new(&node.name, &self.tunnel));
                walk.next_hop = Some(other.address.addr());
                walk.out(Point::new(&node.name, &self.tunnel), None);
                walk.outer = Some((node.address.addr(), other.address.addr()));
            }
            let direct = last.filter(|other| network(other) == network(node));
            walk.next_hop = match direct {
                Some(other) => Some(other.address.addr()),
                None => gateway,
            };
            let receiver = match direct {
                Some(other) => Some(underlay(other)),
                None => bridge.map(|bridge| Point::new(FABRIC, &bridge.bridge)),
            };
            walk.out(underlay(node), receiver);
            walk.come_in(port(node));
            walk.routed = direct.is_none();
        }
        if let Some(node) = last {
            // The router between two networks forwards the outer packet.
            if walk.outer.is_none() {
                walk.forward();
            }
            walk.next_hop = Some(node.address.addr());
            walk.out(port(node), Some(underlay(node)));
            walk.come_in(underlay(node));
            if tunnel.is_some() {
                walk.outer = None;
                walk.come_in(Point::new(&node.name, &self.tunnel));
            }
            walk.routed = true;
        }
    }
}

/// A path while it is worked out.
struct Walk {
    stations: Vec<Station>,
    ttl: u8,
    outer: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The next machine to send it on is no longer the one that made it.
    routed: bool,
    next_hop: Option<Ipv4Addr>,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            stations: Vec::new(),
            ttl: TTL,
            outer: None,
            routed: false,
            next_hop: None,
        }
    }
}

impl Walk {
    /// A machine sends it on; the one that made it takes nothing off the ttl.
    fn forward(&mut self) {
        self.ttl -= u8::from(std::mem::take(&mut self.routed));
    }

    fn out(&mut self, point: Point, frame_to: Option<Point>) {
        self.push(point, Direction::Outgoing, frame_to);
    }

    fn come_in(&mut self, point: Point) {
        self.push(point, Direction::Incoming, None);
    }

    fn push(&mut self, point: Point, direction: Direction, frame_to: Option<Point>) {
        let next_hop = self.next_hop.take();
        self.stations.push(Station {
            point,
            direction,
            outer: self.outer,
            ttl: self.ttl,
            frame_to,
            next_hop,
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
