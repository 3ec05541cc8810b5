use super::*;
use crate::datastore::Mode;
use crate::datastore::Pool;
use crate::fixtures::{endpoint, node, pool, seed};
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
