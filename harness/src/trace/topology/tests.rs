use super::*;
use crate::spec::ClusterSpec;

/// Two nodes in one subnet and a third in another, a pod on each.
pub(in crate::trace) fn three_nodes(mode: Encapsulation) -> Topology {
    let spec = ClusterSpec::default()
        .pool("192.168.0.0/16", |pool| pool.encapsulation(mode))
        .node("n1", |n| n.address("10.12.0.11/24").block("192.168.1.0/24"))
        .node("n2", |n| n.address("10.12.0.12/24").block("192.168.2.0/24"))
        .node("n3", |n| n.address("10.13.0.13/24").block("192.168.3.0/24"))
        .pod("p1", |p| p.on("n1").address("192.168.1.5"))
        .pod("q1", |p| p.on("n1").address("192.168.1.6"))
        .pod("p2", |p| p.on("n2").address("192.168.2.5"))
        .pod("p3", |p| p.on("n3").address("192.168.3.5"));
    let plan = spec.plan().unwrap();
    let ports = plan.nodes.iter().map(|node| node.name.clone());
    Topology {
        ports: ports.map(|name| (name.clone(), name)).collect(),
        plan,
        tunnel: "tunl0".to_owned(),
    }
}

fn words(topology: &Topology, from: &str, to: &str) -> Vec<String> {
    let address = to.parse().unwrap();
    let path = topology.path(
        &topology.party(from.parse().unwrap()),
        &topology.party(address),
        address,
    );
    let cali = |text: String| match text.find("/cali") {
        Some(at) => format!("{}/cali", &text[..at]),
        None => text,
    };
    let stations = path.iter().map(|station| {
        let outer = station.outer.map(|(from, to)| format!(" ({from}>{to})"));
        let place = cali(station.point.to_string());
        let (direction, ttl) = (station.direction, station.ttl);
        format!("{place} {direction} {ttl}{}", outer.unwrap_or_default())
    });
    stations.collect()
}

/// If this fails, every trace between nodes names the wrong hop.
#[test]
fn between_pods_of_two_nodes_the_way_leads_through_both_tunnels() {
    let topology = three_nodes(Encapsulation::Always);
    assert_eq!(
        words(&topology, "192.168.1.5", "192.168.2.5"),
        [
            "p1/eth0 out 64",
            "n1/cali in 64",
            "n1/tunl0 out 63",
            "n1/eth0 out 63 (10.12.0.11>10.12.0.12)",
            "fabric/n1 in 63 (10.12.0.11>10.12.0.12)",
            "fabric/n2 out 63 (10.12.0.11>10.12.0.12)",
            "n2/eth0 in 63 (10.12.0.11>10.12.0.12)",
            "n2/tunl0 in 63",
            "n2/cali out 62",
            "p2/eth0 in 62",
        ]
    );
}

#[test]
fn without_encapsulation_the_router_between_the_networks_takes_one_off_the_ttl() {
    let topology = three_nodes(Encapsulation::Never);
    assert_eq!(
        words(&topology, "192.168.1.5", "192.168.3.5"),
        [
            "p1/eth0 out 64",
            "n1/cali in 64",
            "n1/eth0 out 63",
            "fabric/n1 in 63",
            "fabric/n3 out 62",
            "n3/eth0 in 62",
            "n3/cali out 61",
            "p3/eth0 in 61",
        ]
    );
    let inside = words(
        &three_nodes(Encapsulation::CrossSubnet),
        "192.168.1.5",
        "192.168.2.5",
    );
    assert!(
        !inside.iter().any(|station| station.contains("tunl0")),
        "{inside:?}"
    );
    let across = words(
        &three_nodes(Encapsulation::CrossSubnet),
        "192.168.1.5",
        "192.168.3.5",
    );
    assert_eq!(across[5], "fabric/n3 out 63 (10.12.0.11>10.13.0.13)");
    assert_eq!(across.last().unwrap(), "p3/eth0 in 62");
}

#[test]
fn nodes_neighbours_and_the_outside_are_ends_as_well() {
    let topology = three_nodes(Encapsulation::Always);
    let ends = |from: &str, to: &str| {
        let words = words(&topology, from, to);
        let last = words.last().cloned().unwrap_or_default();
        (words.len(), last)
    };
    // A pod and its neighbour, its own node, another node, what is outside.
    assert_eq!(
        ends("192.168.1.5", "192.168.1.6"),
        (4, "q1/eth0 in 63".into())
    );
    assert_eq!(
        ends("192.168.1.5", "10.12.0.11"),
        (2, "n1/cali in 64".into())
    );
    assert_eq!(
        ends("192.168.1.5", "10.12.0.12"),
        (6, "n2/eth0 in 63".into())
    );
    assert_eq!(
        ends("192.168.1.5", "9.9.9.9"),
        (4, "fabric/n1 in 63".into())
    );
    // A node sends into its own tunnel; what it makes itself it does not forward.
    let from_node = words(&topology, "10.12.0.11", "192.168.2.5");
    assert_eq!(from_node[0], "n1/tunl0 out 64");
    assert_eq!(from_node.last().unwrap(), "p2/eth0 in 63");
    assert_eq!(
        ends("10.12.0.11", "192.168.1.5"),
        (2, "p1/eth0 in 64".into())
    );
    assert_eq!(ends("9.9.9.9", "10.12.0.11"), (2, "n1/eth0 in 64".into()));
    // An address of a block that nobody has ends at its node.
    assert_eq!(
        ends("192.168.1.5", "192.168.2.99"),
        (8, "n2/tunl0 in 63".into())
    );
}
