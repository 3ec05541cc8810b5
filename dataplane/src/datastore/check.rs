//! Faults that no single file shows: an address used twice, a pod outside every block.
//!
//! An agent that starts refuses them, because somebody is there to read the message. One that
//! runs logs them and goes on: [`desired`](crate::desired) has a rule for every one of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{File, Snapshot};

/// One contradiction between files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    file: File,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// Everything in which the files contradict each other, in the order of their names.
///
/// Two endpoints with one address are no fault: while a pod moves, both files exist for a moment.
#[must_use]
pub fn check(snapshot: &Snapshot) -> Vec<Fault> {
    let mut faults = Vec::new();
    nodes(snapshot, &mut faults);
    endpoints(snapshot, &mut faults);
    faults
}

fn nodes(snapshot: &Snapshot, faults: &mut Vec<Fault>) {
    let mut addresses: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    let mut tunnels: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    let mut blocks: BTreeMap<Ipv4Net, &str> = BTreeMap::new();
    let in_a_pool = |inner: &Ipv4Net| {
        snapshot
            .pools
            .values()
            .any(|pool| pool.cidr.contains(inner))
    };

    for (name, node) in &snapshot.nodes {
        let mut fault = |what| {
            faults.push(Fault {
                file: File::Node(name.clone()),
                what,
            })
        };
        let address = node.address.addr();
        if let Some(other) = addresses.insert(address, name) {
            fault(format!("address {address} is that of node {other} as well"));
        }
        if let Some(tunnel) = node.tunnel_address {
            if let Some(other) = tunnels.insert(tunnel, name) {
                fault(format!(
                    "tunnel_address {tunnel} is that of node {other} as well"
                ));
            }
            if !in_a_pool(&tunnel.into()) {
                fault(format!(
                    "tunnel_address {tunnel} is in no pool ({})",
                    pools(snapshot)
                ));
            }
        }
        for &block in &node.blocks {
            if let Some(other) = blocks.insert(block, name) {
                fault(format!("block {block} is one of node {other}'s as well"));
            }
            if !in_a_pool(&block) {
                fault(format!("block {block} is in no pool ({})", pools(snapshot)));
            }
        }
    }
}

fn endpoints(snapshot: &Snapshot, faults: &mut Vec<Fault>) {
    let blocks: BTreeMap<Ipv4Net, &str> = snapshot
        .nodes
        .iter()
        .flat_map(|(name, node)| node.blocks.iter().map(move |block| (*block, name.as_str())))
        .collect();
    // Blocks are short of 32 bits in few lengths only: look each up instead of trying all blocks.
    let lengths: std::collections::BTreeSet<u8> = blocks.keys().map(Ipv4Net::prefix_len).collect();
    let in_a_block = |address: Ipv4Addr| {
        lengths.iter().any(|&length| {
            Ipv4Net::new(address, length).is_ok_and(|net| blocks.contains_key(&net.trunc()))
        })
    };

    for ((node, id), endpoint) in &snapshot.endpoints {
        let file = File::Endpoint(node.clone(), id.clone());
        let mut fault = |what| {
            faults.push(Fault {
                file: file.clone(),
                what,
            })
        };
        let (pod, namespace) = (&endpoint.pod, &endpoint.namespace);
        if !snapshot.nodes.contains_key(node) {
            fault(format!(
                "pod {namespace}/{pod} is on node {node}, which has no nodes/{node}.json"
            ));
        }
        for &address in endpoint
            .addresses
            .iter()
            .filter(|address| !in_a_block(**address))
        {
            fault(format!(
                "address {address} of pod {namespace}/{pod} is in no node's block"
            ));
        }
    }
}

fn pools(snapshot: &Snapshot) -> String {
    let cidrs: Vec<_> = snapshot
        .pools
        .values()
        .map(|pool| pool.cidr.to_string())
        .collect();
    if cidrs.is_empty() {
        "there is none".to_owned()
    } else {
        format!("there are {}", cidrs.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{endpoint, node, seed};
    use rstest::rstest;

    type Edit = fn(&mut Snapshot);

    #[test]
    fn the_seeds_cluster_is_without_fault() {
        assert_eq!(check(&seed()), []);
    }

    #[rstest]
    #[case::node_address_twice(
        |s: &mut Snapshot| { s.nodes.insert("z".into(), node("10.12.22.3/16", None, &[])); },
        "nodes/z.json: address 10.12.22.3 is that of node k8s-worker-2 as well")]
    #[case::tunnel_address_twice(
        |s: &mut Snapshot| { s.nodes.insert("z".into(), node("10.12.22.9/16", Some("192.168.2.0"), &[])); },
        "nodes/z.json: tunnel_address 192.168.2.0 is that of node k8s-worker-2 as well")]
    #[case::block_twice(
        |s: &mut Snapshot| { s.nodes.insert("z".into(), node("10.12.22.9/16", None, &["192.168.2.0/24"])); },
        "nodes/z.json: block 192.168.2.0/24 is one of node k8s-worker-2's as well")]
    #[case::block_outside_every_pool(
        |s: &mut Snapshot| { s.nodes.insert("z".into(), node("10.12.22.9/16", None, &["172.16.0.0/24"])); },
        "nodes/z.json: block 172.16.0.0/24 is in no pool (there are 192.168.0.0/16)")]
    #[case::pod_outside_every_block(
        |s: &mut Snapshot| { s.endpoints.insert(("k8s-worker-1".into(), "x".into()), endpoint("cali1", "192.168.77.1")); },
        "endpoints/k8s-worker-1/x.json: address 192.168.77.1 of pod default/cali1 is in no node's block")]
    #[case::pod_on_an_unknown_node(
        |s: &mut Snapshot| { s.endpoints.insert(("nowhere".into(), "x".into()), endpoint("cali1", "192.168.1.77")); },
        "endpoints/nowhere/x.json: pod default/cali1 is on node nowhere, which has no nodes/nowhere.json")]
    fn each_contradiction_is_named(#[case] edit: Edit, #[case] expected: &str) {
        let mut snapshot = seed();
        edit(&mut snapshot);
        let faults: Vec<_> = check(&snapshot).iter().map(Fault::to_string).collect();
        assert_eq!(faults, [expected]);
    }
}
