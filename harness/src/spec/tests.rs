//! Each fault that a user can put into a specification, and what they are told.

use rstest::rstest;

use super::{ClusterSpec, Encapsulation, Plan};

/// A good cluster of two nodes; each case below breaks one thing in it.
fn good() -> ClusterSpec {
    ClusterSpec::default()
        .node("n1", |n| n.address("10.12.22.2/16").block("192.168.1.0/24"))
        .node("n2", |n| n.address("10.12.22.3/16").block("192.168.2.0/24"))
        .pod("web", |p| {
            p.on("n1").address("192.168.1.2").serve_http(8080)
        })
}

fn plan(spec: &ClusterSpec) -> Plan {
    spec.plan().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_default_is_filled_in() {
    let plan = plan(&good());
    assert_eq!(plan.pools.len(), 1);
    assert_eq!(plan.pools[0].cidr.to_string(), "192.168.0.0/16");
    assert_eq!(plan.pools[0].encapsulation, Encapsulation::Always);
    assert_eq!(plan.underlays.len(), 1);
    assert_eq!(plan.underlays[0].gateway.to_string(), "10.12.0.1/16");
    assert_eq!(plan.underlays[0].mtu, 1500);
    assert_eq!(plan.nodes[0].underlay.name, "eth0");
    assert_eq!(
        plan.nodes[1].tunnel_address.unwrap().to_string(),
        "192.168.2.0"
    );
    assert_eq!(plan.pods[0].mtu, 1480);
    assert_eq!(plan.pods[0].node, "n1");
}

#[test]
fn a_network_without_a_node_has_an_mtu_all_the_same() {
    let spec = good().underlay("10.99.0.0/24", |u| u);
    assert_eq!(plan(&spec).underlays[0].mtu, 1500);
}

/// Names from the seed document: they were made by Calico itself.
#[rstest]
#[case("echo-server", "cali0005aea454a")]
#[case("c2c-network-demo", "calid9d486e54a8")]
#[case("test-tools", "calied9d42cb137")]
fn a_pods_interface_has_the_name_that_calico_gives_it(#[case] pod: &str, #[case] name: &str) {
    let spec = good().pod(pod, |p| p.on("n1").address("192.168.1.10"));
    assert_eq!(plan(&spec).pods[1].host_interface(), name);
}

#[test]
fn an_mtu_is_taken_from_the_pool_first_and_then_from_the_node() {
    let spec = good().pool("192.168.0.0/16", |p| p.tunnel_mtu(1440));
    assert_eq!(plan(&spec).pods[0].mtu, 1440);
    let mut spec = good();
    spec.nodes[0].mtu = 9000;
    let plan = plan(&spec);
    assert_eq!(plan.pods[0].mtu, 8980);
    assert_eq!(plan.underlays[0].mtu, 9000);
}

#[test]
fn nodes_of_two_subnets_get_two_underlays_and_gateways_that_are_free() {
    let spec = good().node("n3", |n| n.address("10.13.0.1/16"));
    let plan = plan(&spec);
    let gateways: Vec<String> = plan
        .underlays
        .iter()
        .map(|u| u.gateway.to_string())
        .collect();
    assert_eq!(gateways, ["10.12.0.1/16", "10.13.0.2/16"]);
    assert_eq!(plan.nodes[2].underlay.network, 1);
}

/// If this fails, a later change moves a gateway or a tunnel address that nobody touched.
#[test]
fn a_settled_specification_keeps_what_was_chosen_for_it() {
    let mut spec = good();
    let before = plan(&spec);
    before.settle(&mut spec);
    assert_eq!(plan(&spec), before);
    spec.nodes[0].blocks = vec!["192.168.8.0/24".into(), "192.168.1.0/24".into()];
    let spec = spec.node("n0", |n| n.address("10.12.0.7/16").mtu(9000));
    let after = plan(&spec);
    assert_eq!(
        after.nodes[0].tunnel_address,
        before.nodes[0].tunnel_address
    );
    assert_eq!(after.underlays[0].mtu, 9000, "nobody asked for 1500");
    let taken = spec.node("n9", |n| n.address("10.12.0.1/16"));
    let error = taken.validate().unwrap_err().to_string();
    assert!(
        error.contains("gateway of underlay 10.12.0.0/16"),
        "{error}"
    );
}

#[test]
fn another_interface_is_plugged_in_where_its_address_is_or_where_the_nodes_is() {
    let spec = good().node("n3", |n| {
        n.address("10.13.0.2/16")
            .other_interface("eth1", |i| i)
            .other_interface("eth2", |i| i.address("10.12.0.9/16").mtu(9000))
    });
    let plan = plan(&spec);
    let networks: Vec<usize> = plan.nodes[2].interfaces().map(|i| i.network).collect();
    assert_eq!(networks, [1, 1, 0]);
    assert_eq!((plan.underlays[0].mtu, plan.underlays[1].mtu), (9000, 1500));
}

#[test]
fn a_specification_survives_being_written_and_read() {
    let text = serde_json::to_string(&good()).unwrap();
    assert_eq!(serde_json::from_str::<ClusterSpec>(&text).unwrap(), good());
}

#[rstest]
#[case::unknown_node(
    good().pod("x", |p| p.on("n9").address("192.168.1.9")),
    "pod \"x\": it is on node \"n9\", which does not exist", "known nodes: n1, n2")]
#[case::pod_outside_every_block(
    good().pod("x", |p| p.on("n1").address("192.168.7.9")),
    "pod \"x\": its address 192.168.7.9 lies outside every block",
    "blocks: 192.168.1.0/24, 192.168.2.0/24")]
#[case::two_nodes_with_one_address(
    good().node("n3", |n| n.address("10.12.22.3/16")),
    "node \"n3\": its address 10.12.22.3 belongs to node \"n2\" already", "given once")]
#[case::two_pods_with_one_address(
    good().pod("x", |p| p.on("n2").address("192.168.1.2")),
    "pod \"x\": its address 192.168.1.2 belongs to pod \"web\" already", "given once")]
#[case::a_pod_with_the_tunnels_address(
    good().pod("x", |p| p.on("n1").address("192.168.1.0")),
    "belongs to node \"n1\" (tunnel address) already", "given once")]
#[case::no_node_address(
    good().node("n3", |n| n.address("10.12.22.300/16")),
    "node \"n3\": its address \"10.12.22.300/16\" is no IPv4 address with a prefix",
    "10.12.22.2/16")]
#[case::node_address_without_prefix(
    good().node("n3", |n| n.address("10.12.22.4")),
    "is no IPv4 address with a prefix", "10.12.22.2/16")]
#[case::no_pod_address(
    good().pod("x", |p| p.on("n1").address("here")),
    "pod \"x\": its address \"here\" is no IPv4 address", "192.168.1.12")]
#[case::network_address(
    good().node("n3", |n| n.address("10.12.0.0/16")),
    "10.12.0.0 is the network or broadcast address of 10.12.0.0/16", "inside")]
#[case::host_bits(
    good().node("n3", |n| n.address("10.12.22.4/16").block("192.168.3.1/24")),
    "node \"n3\": its block 192.168.3.1/24 has host bits set", "write 192.168.3.0/24")]
#[case::block_outside_the_pools(
    good().node("n3", |n| n.address("10.12.22.4/16").block("172.16.0.0/24")),
    "node \"n3\": block 172.16.0.0/24 lies in no pool", "pools: 192.168.0.0/16")]
#[case::a_tunnel_address_outside_the_pools(
    good().node("n3", |n| n.address("10.12.22.4/16").tunnel_address("172.16.0.1")),
    "node \"n3\": its tunnel address 172.16.0.1 lies in no pool", "pools: 192.168.0.0/16")]
#[case::overlapping_blocks(
    good().node("n3", |n| n.address("10.12.22.4/16").block("192.168.2.128/25")),
    "block 192.168.2.128/25 overlaps block 192.168.2.0/24 of node \"n2\"", "of its own")]
#[case::two_nodes_of_one_name(
    good().node("n1", |n| n.address("10.12.22.4/16")),
    "node \"n1\": there are two nodes of that name", "rename")]
#[case::two_pods_of_one_name(
    good().pod("web", |p| p.on("n1").address("192.168.1.3")),
    "pod \"web\": there are two pods of that name", "rename")]
#[case::two_containers_on_one_port(
    good().pod("x", |p| p.on("n1").address("192.168.1.3")
        .http_container("a", 80).http_container("b", 80)),
    "pod \"x\": two containers serve port 80", "choose another")]
#[case::a_name_that_is_a_path(
    good().node("../n3", |n| n.address("10.12.22.4/16")),
    "\"../n3\" cannot be a name", "letters")]
#[case::a_long_interface_name(
    good().node("n3", |n| n.address("10.12.22.4/16").interface("sixteen-letters-")),
    "\"sixteen-letters-\" cannot be its underlay interface", "1 to 15")]
#[case::a_taken_interface_name(
    good().node("n3", |n| n.address("10.12.22.4/16").interface("tunl0")),
    "\"tunl0\" cannot be its underlay interface", "taken")]
#[case::two_interfaces_of_one_name(
    good().node("n3", |n| n.address("10.12.22.4/16").other_interface("eth0", |i| i)),
    "node \"n3\": it has two interfaces \"eth0\"", "rename")]
#[case::another_interface_with_a_taken_address(
    good().node("n3", |n| n.address("10.12.22.4/16")
        .other_interface("eth1", |i| i.address("10.12.22.2/16"))),
    "node \"n3\": its address 10.12.22.2 belongs to node \"n1\" already", "given once")]
#[case::an_impossible_mtu(
    good().node("n3", |n| n.address("10.12.22.4/16").mtu(20)),
    "node \"n3\": MTU 20 is not possible", "68 to 65535")]
#[case::a_gateway_outside(
    good().underlay("10.12.0.0/16", |u| u.gateway("10.13.0.1")),
    "its gateway 10.13.0.1 lies outside of it", "inside")]
#[case::a_gateway_that_is_a_node(
    good().underlay("10.12.0.0/16", |u| u.gateway("10.12.22.2")),
    "its address 10.12.22.2 belongs to node \"n1\" already", "given once")]
#[case::overlapping_pools(
    good().pool("192.168.0.0/16", |p| p).pool("192.168.128.0/17", |p| p),
    "192.168.128.0/17 overlaps 192.168.0.0/16 of pool \"default-pool\"", "of its own")]
#[case::a_block_size_wider_than_the_pool(
    good().pool("192.168.0.0/16", |p| p.block_size(8)),
    "block size /8 does not fit into 192.168.0.0/16", "from 16 to 32")]
#[case::nothing(ClusterSpec::default(), "cluster: it has no nodes", "add one")]
fn a_fault_names_the_thing_and_says_what_to_do(
    #[case] spec: ClusterSpec,
    #[case] message: &str,
    #[case] hint: &str,
) {
    let error = spec.validate().unwrap_err();
    assert_eq!(error.faults.len(), 1, "one thing is broken: {error}");
    let text = error.to_string();
    assert!(text.contains(message), "{text}");
    let mut hints = text
        .lines()
        .filter(|line| line.trim_start().starts_with("hint: "));
    assert!(
        hints.next_back().is_some_and(|line| line.contains(hint)),
        "{text}"
    );
}

/// If this fails, a user mends one fault after the other instead of all at once.
#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_specification() {
    let spec = good()
        .node("n3", |n| n.address("nowhere"))
        .pod("x", |p| p.on("n8").address("192.168.1.9"))
        .pod("y", |p| p.on("n9").address("172.16.0.1"));
    let error = spec.validate().unwrap_err();
    let subjects: Vec<&str> = error
        .faults
        .iter()
        .map(|fault| fault.subject.as_str())
        .collect();
    assert_eq!(
        subjects,
        ["node \"n3\"", "pod \"x\"", "pod \"y\"", "pod \"y\""]
    );
    assert!(
        error
            .to_string()
            .starts_with("the cluster's specification has 4 faults:")
    );
}
