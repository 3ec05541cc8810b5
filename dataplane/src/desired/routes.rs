//! The routes of a node: own blocks, local pods, other nodes' blocks, borrowed addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Target;
use crate::datastore::{Endpoint, Mode, Node, Snapshot};

pub(super) fn local_endpoints<'a>(
    snapshot: &'a Snapshot,
    name: &str,
) -> impl Iterator<Item = &'a Endpoint> {
    snapshot
        .endpoints
        .iter()
        .filter(move |((node, _), _)| node == name)
        .map(|(_, endpoint)| endpoint)
}

/// The endpoint that has each local pod address. Of two that claim one address the one with the
/// lower id has it; when it leaves, the other takes over.
pub(super) fn local_addresses<'a>(
    snapshot: &'a Snapshot,
    name: &'a str,
) -> BTreeMap<Ipv4Addr, &'a Endpoint> {
    let mut addresses = BTreeMap::new();
    for endpoint in local_endpoints(snapshot, name) {
        for address in &endpoint.addresses {
            addresses.entry(*address).or_insert(endpoint);
        }
    }
    addresses
}

pub(super) fn compute(
    snapshot: &Snapshot,
    name: &str,
    node: &Node,
    local: &BTreeMap<Ipv4Addr, &Endpoint>,
) -> BTreeMap<Ipv4Net, Target> {
    // The first to claim a destination has it, so the order below is the order of precedence.
    let mut routes = BTreeMap::new();
    for (&address, endpoint) in local {
        routes.insert(address.into(), Target::Pod(endpoint.interface.clone()));
    }
    for &block in &node.blocks {
        // A blackhole for a block of one address would stand in the way of its pod.
        if block.prefix_len() < 32 {
            routes.entry(block).or_insert(Target::Blackhole);
        }
    }
    // Who has a destination is decided before the way there, which is every node's own: a third
    // node that cannot reach the winner must not send to the loser.
    let mut decided: BTreeSet<Ipv4Net> = routes.keys().copied().collect();
    let mut via = |destination: Ipv4Net, other: &Node| {
        if decided.insert(destination)
            && let Some(target) = carry(snapshot, node, other, destination)
        {
            routes.insert(destination, target);
        }
    };
    let others = || snapshot.nodes.iter().filter(|(other, _)| *other != name);
    for (_, other) in others() {
        for &block in &other.blocks {
            via(block, other);
        }
    }
    // An address outside its node's own blocks is borrowed: the block's route leads elsewhere.
    for (_, other) in others() {
        if let Some(address) = other
            .tunnel_address
            .filter(|address| !owns(other, *address))
        {
            via(address.into(), other);
        }
    }
    for ((on, _), endpoint) in snapshot.endpoints.iter().filter(|((on, _), _)| on != name) {
        // An endpoint may be written before, or outlive, its node.
        let Some(other) = snapshot.nodes.get(on) else {
            continue;
        };
        for &address in endpoint
            .addresses
            .iter()
            .filter(|address| !owns(other, **address))
        {
            via(address.into(), other);
        }
    }
    routes
}

fn owns(node: &Node, address: Ipv4Addr) -> bool {
    node.blocks.iter().any(|block| block.contains(&address))
}

/// How `node` sends to a destination behind `other`; `None` when that is not up to us.
fn carry(snapshot: &Snapshot, node: &Node, other: &Node, destination: Ipv4Net) -> Option<Target> {
    let gateway = other.address.addr();
    if gateway == node.address.addr() {
        // Two nodes claim one address; a route to ourselves helps neither.
        return None;
    }
    let same_subnet = node.address.contains(&gateway);
    match (mode(snapshot, destination)?, same_subnet) {
        (Mode::Always, _) | (Mode::CrossSubnet, false) => Some(Target::Tunnel(gateway)),
        (Mode::CrossSubnet | Mode::Never, true) => Some(Target::Underlay(gateway)),
        // The other node is behind a router, which has to know the way; so the default route
        // that leads to it is the right one.
        (Mode::Never, false) => None,
    }
}

/// The mode of the narrowest pool around a destination; `None` when no pool is around it.
fn mode(snapshot: &Snapshot, destination: Ipv4Net) -> Option<Mode> {
    snapshot
        .pools
        .values()
        .filter(|pool| pool.cidr.contains(&destination))
        .max_by_key(|pool| pool.cidr.prefix_len())
        .map(|pool| pool.encapsulation)
}
