//! Clusters that unit tests of several modules share.

use proptest::prelude::ProptestConfig;

use crate::datastore::{Endpoint, Mode, Node, Pool, Snapshot};

/// A property is tried that often, unless PROPTEST_CASES says how often.
pub(crate) fn cases(number: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = number;
    }
    config
}

pub(crate) fn pool(cidr: &str, mode: Mode) -> Pool {
    Pool {
        cidr: cidr.parse().unwrap(),
        block_size: 24,
        encapsulation: mode,
        nat_outgoing: false,
        tunnel_mtu: None,
    }
}

pub(crate) fn node(address: &str, tunnel: Option<&str>, blocks: &[&str]) -> Node {
    Node {
        address: address.parse().unwrap(),
        tunnel_address: tunnel.map(|address| address.parse().unwrap()),
        blocks: blocks.iter().map(|block| block.parse().unwrap()).collect(),
    }
}

/// A pod that is called as its interface is.
pub(crate) fn endpoint(interface: &str, address: &str) -> Endpoint {
    Endpoint {
        pod: interface.into(),
        namespace: "default".into(),
        interface: interface.into(),
        addresses: vec![address.parse().unwrap()],
        mac: None,
    }
}

/// Three nodes with a block each and four pods, as the project's first scenario has them.
pub(crate) fn seed() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.pools.insert(
        "default".into(),
        Pool {
            tunnel_mtu: Some(1440),
            ..pool("192.168.0.0/16", Mode::Always)
        },
    );
    for (name, i) in [("k8s-master", 0), ("k8s-worker-1", 1), ("k8s-worker-2", 2)] {
        let address = format!("10.12.22.{}/16", i + 1);
        let tunnel = format!("192.168.{i}.0");
        let block = format!("192.168.{i}.0/24");
        snapshot
            .nodes
            .insert(name.into(), node(&address, Some(&tunnel), &[&block]));
    }
    for (node, interface, address) in [
        ("k8s-worker-1", "cali0005aea454a", "192.168.1.2"),
        ("k8s-worker-1", "calid9d486e54a8", "192.168.1.10"),
        ("k8s-worker-1", "calied9d42cb137", "192.168.1.12"),
        ("k8s-worker-2", "cali7a1b2c3d4e5", "192.168.2.6"),
    ] {
        snapshot.endpoints.insert(
            (node.into(), interface.into()),
            endpoint(interface, address),
        );
    }
    snapshot
}
