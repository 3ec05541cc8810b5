use super::*;
use crate::datastore::Mode;
use crate::datastore::{Pool, Store};
use crate::fixtures::{endpoint, node, pool, seed};
use proptest::prelude::*;
use rstest::rstest;

fn compute(snapshot: &Snapshot, name: &str) -> Desired {
    Desired::compute(snapshot, name).unwrap()
}

/// The routes as text, one line each.
fn routes(snapshot: &Snapshot, name: &str) -> Vec<String> {
    compute(snapshot, name)
        .routes
        .iter()
        .map(|(net, target)| format!("{net} {target:?}"))
        .collect()
}

fn insert(snapshot: &mut Snapshot, on: &str, id: &str, address: &str) {
    snapshot
        .endpoints
        .insert((on.into(), id.into()), endpoint(id, address));
}

#[test]
fn the_seeds_worker_1_has_the_seeds_routes() {
    assert_eq!(
        routes(&seed(), "k8s-worker-1"),
        [
            "192.168.0.0/24 Tunnel(10.12.22.1)",
            "192.168.1.0/24 Blackhole",
            "192.168.1.2/32 Pod(\"cali0005aea454a\")",
            "192.168.1.10/32 Pod(\"calid9d486e54a8\")",
            "192.168.1.12/32 Pod(\"calied9d42cb137\")",
            "192.168.2.0/24 Tunnel(10.12.22.3)",
        ]
    );
    let desired = compute(&seed(), "k8s-worker-1");
    assert_eq!(desired.tunnel.address, Some(Ipv4Addr::new(192, 168, 1, 0)));
    assert_eq!(desired.tunnel.mtu.on(1500), 1440, "what the pool says wins");
    assert_eq!(
        desired.peers.nodes,
        ["10.12.22.1", "10.12.22.3"]
            .map(|a| a.parse().unwrap())
            .into()
    );
}

#[rstest]
#[case::always(Mode::Always, "10.12.22.3/16", Some("Tunnel(10.12.22.3)"))]
#[case::always_across(Mode::Always, "10.13.22.3/16", Some("Tunnel(10.13.22.3)"))]
#[case::cross_subnet(Mode::CrossSubnet, "10.12.22.3/16", Some("Underlay(10.12.22.3)"))]
#[case::cross_subnet_across(Mode::CrossSubnet, "10.13.22.3/16", Some("Tunnel(10.13.22.3)"))]
#[case::never(Mode::Never, "10.12.22.3/16", Some("Underlay(10.12.22.3)"))]
#[case::never_across(Mode::Never, "10.13.22.3/16", None)]
fn the_mode_and_the_subnet_decide_how_a_block_is_reached(
    #[case] mode: Mode,
    #[case] other: &str,
    #[case] expected: Option<&str>,
) {
    let mut snapshot = seed();
    snapshot
        .pools
        .insert("default".into(), pool("192.168.0.0/16", mode));
    snapshot.nodes.insert(
        "k8s-worker-2".into(),
        node(other, None, &["192.168.2.0/24"]),
    );
    let lines = routes(&snapshot, "k8s-worker-1");
    let line = lines
        .iter()
        .find_map(|line| line.strip_prefix("192.168.2.0/24 "));
    assert_eq!(line, expected);
    let tunnel = compute(&snapshot, "k8s-worker-1").tunnel;
    assert_eq!(tunnel.in_use, mode != Mode::Never);
    assert_eq!(tunnel.address.is_some(), tunnel.in_use);
}

#[test]
fn the_narrowest_pool_decides() {
    let mut snapshot = seed();
    snapshot
        .pools
        .insert("narrow".into(), pool("192.168.2.0/24", Mode::Never));
    let lines = routes(&snapshot, "k8s-worker-1");
    assert!(
        lines.contains(&"192.168.2.0/24 Underlay(10.12.22.3)".into()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"192.168.0.0/24 Tunnel(10.12.22.1)".into()),
        "{lines:?}"
    );
}

#[test]
fn a_borrowed_address_has_a_route_of_its_own_on_every_node_but_the_borrower() {
    let mut snapshot = seed();
    insert(
        &mut snapshot,
        "k8s-worker-2",
        "cali-borrower",
        "192.168.1.77",
    );
    let via = "192.168.1.77/32 Tunnel(10.12.22.3)".to_owned();
    assert!(
        routes(&snapshot, "k8s-worker-1").contains(&via),
        "the block's owner"
    );
    assert!(
        routes(&snapshot, "k8s-master").contains(&via),
        "a third node"
    );
    let local = "192.168.1.77/32 Pod(\"cali-borrower\")".to_owned();
    assert!(
        routes(&snapshot, "k8s-worker-2").contains(&local),
        "the borrower"
    );
}

#[test]
fn a_borrowed_tunnel_address_has_a_route_too() {
    let mut snapshot = seed();
    snapshot
        .nodes
        .insert("z".into(), node("10.12.22.9/16", Some("192.168.1.99"), &[]));
    let via = "192.168.1.99/32 Tunnel(10.12.22.9)".to_owned();
    assert!(routes(&snapshot, "k8s-worker-1").contains(&via));
}

#[test]
fn a_block_of_one_address_has_no_blackhole() {
    let mut snapshot = seed();
    snapshot
        .nodes
        .insert("z".into(), node("10.12.22.9/16", None, &["192.168.9.9/32"]));
    assert!(
        !routes(&snapshot, "z")
            .iter()
            .any(|line| line.contains("192.168.9.9"))
    );
    assert!(routes(&snapshot, "k8s-master").contains(&"192.168.9.9/32 Tunnel(10.12.22.9)".into()));
}

#[test]
fn of_two_claims_the_local_one_wins_and_of_two_local_ones_the_lower_id() {
    let mut snapshot = seed();
    insert(&mut snapshot, "k8s-worker-1", "cali-b", "192.168.1.50");
    insert(&mut snapshot, "k8s-worker-1", "cali-a", "192.168.1.50");
    insert(&mut snapshot, "k8s-worker-2", "cali-0", "192.168.1.50");
    let winner = |snapshot: &Snapshot| {
        let desired = compute(snapshot, "k8s-worker-1");
        desired.routes[&"192.168.1.50/32".parse().unwrap()].clone()
    };
    assert_eq!(winner(&snapshot), Target::Pod("cali-a".into()));
    snapshot
        .endpoints
        .remove(&("k8s-worker-1".into(), "cali-a".into()));
    assert_eq!(winner(&snapshot), Target::Pod("cali-b".into()));
    snapshot
        .endpoints
        .remove(&("k8s-worker-1".into(), "cali-b".into()));
    assert_eq!(
        winner(&snapshot),
        Target::Tunnel(Ipv4Addr::new(10, 12, 22, 3))
    );
}

#[test]
fn a_known_mac_becomes_a_neighbour() {
    let mut snapshot = seed();
    let key = ("k8s-worker-1".to_owned(), "calied9d42cb137".to_owned());
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    snapshot.endpoints.get_mut(&key).unwrap().mac = Some(mac);
    let neighbours = compute(&snapshot, "k8s-worker-1").neighbours;
    assert_eq!(
        neighbours,
        [((key.1, Ipv4Addr::new(192, 168, 1, 12)), mac)].into()
    );
}

#[rstest]
#[case(&[None], 1480)]
#[case(&[Some(1300)], 1300)]
#[case(&[Some(1300), None], 1300)]
#[case(&[Some(9000), None], 1480)]
#[case(&[Some(9000), Some(1440)], 1440)]
fn the_smallest_tunnel_mtu_that_a_pool_asks_for_holds(
    #[case] mtus: &[Option<u32>],
    #[case] expected: u32,
) {
    let mut snapshot = seed();
    snapshot.pools.clear();
    for (i, &tunnel_mtu) in mtus.iter().enumerate() {
        let pool = Pool {
            tunnel_mtu,
            ..pool(&format!("10.{i}.0.0/16"), Mode::Always)
        };
        snapshot.pools.insert(i.to_string(), pool);
    }
    assert_eq!(
        compute(&snapshot, "k8s-master").tunnel.mtu.on(1500),
        expected
    );
}

#[test]
fn an_unknown_node_is_told_which_are_known() {
    let error = Desired::compute(&seed(), "k8s-worker-9")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("node k8s-worker-9: is not in the datastore\nhint: "),
        "{error}"
    );
    assert!(
        error.ends_with("k8s-master, k8s-worker-1, k8s-worker-2"),
        "{error}"
    );
}

/// What is written into the datastore, one file at a time.
fn files() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    let pool = |i: u8, mode: &str| {
        (
            format!("pools/p{i}.json"),
            format!(
                r#"{{"cidr":"192.168.0.0/{}","block_size":28,"encapsulation":"{mode}"}}"#,
                16 + i
            ),
        )
    };
    let node = |i: u8, subnet: u8, block: u8| {
        (
            format!("nodes/n{i}.json"),
            // n4 has the address of n1, when they are in one subnet.
            format!(
                r#"{{"address":"10.{subnet}.0.{}/16","blocks":["192.168.{block}.0/24"]}}"#,
                i % 3
            ),
        )
    };
    let endpoint = |on: u8, id: u8, net: u8, host: u8| {
        (
            format!("endpoints/n{on}/e{id}.json"),
            format!(
                r#"{{"pod":"p","namespace":"n","interface":"cali{id}","addresses":["192.168.{net}.{host}"]}}"#
            ),
        )
    };
    let file = prop_oneof![
        (0..3u8, prop_oneof!["always", "cross-subnet", "never"])
            .prop_map(move |(i, m)| pool(i, &m)),
        (1..5u8, 1..3u8, 0..4u8).prop_map(move |(i, s, b)| node(i, s, b)),
        (1..5u8, 0..6u8, 0..4u8, 1..4u8).prop_map(move |(n, i, a, b)| endpoint(n, i, a, b)),
    ];
    // Every tenth file is removed again: only its last content counts.
    proptest::collection::vec((file, proptest::bool::weighted(0.9)), 0..30).prop_map(|files| {
        files
            .into_iter()
            .map(|((name, text), there)| (name, there.then_some(text)))
            .collect()
    })
}

/// The desired state of node n1 after these files were written and noticed one after the other.
fn after(files: &[(String, Option<String>)]) -> Result<Desired, UnknownNode> {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::new(directory.path()).unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => drop(std::fs::remove_file(&path)),
        }
        store.reload_all();
    }
    Desired::compute(store.snapshot(), "n1")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A node that was down while the cluster changed ends up like one that saw every event.
    #[test]
    fn any_order_of_events_ends_in_the_same_state(files in files(), seed in any::<prop::sample::Index>()) {
        // The last content of each file, so that the order cannot matter by itself.
        let last: BTreeMap<_, _> = files.iter().cloned().collect();
        let mut shuffled: Vec<_> = last.into_iter().collect();
        if !shuffled.is_empty() {
            let middle = seed.index(shuffled.len());
            shuffled.rotate_left(middle);
            shuffled[..middle].reverse();
        }
        prop_assert_eq!(after(&files), after(&shuffled));
    }

    /// A route that leads back to the node itself would be a loop.
    #[test]
    fn no_route_leads_to_the_node_itself(files in files()) {
        let Ok(desired) = after(&files) else { return Ok(()) };
        for target in desired.routes.values() {
            if let Target::Tunnel(gateway) | Target::Underlay(gateway) = target {
                prop_assert_ne!(*gateway, desired.address.addr());
            }
        }
    }
}
