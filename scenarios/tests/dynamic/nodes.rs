//! Nodes that come, go, and change their address.

use anyhow::Result;
use podlab::capture::{Captured, Filter};
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use rstest::rstest;

use crate::stream::Stream;
use crate::world::{
    addresses, all_pairs, boot, connected, depths_on_the_wire, ping, route_is, two_subnets,
};

/// Proves that a cluster can grow: a new node and its pods are reached by all, know all, and
/// those who were there lose nothing.
#[rstest]
#[podlab::test]
async fn a_node_is_added(#[values("kernel", "ebpf", "userspace")] backend: &str) -> Result<()> {
    let cluster = boot(two_subnets(Always), backend).await?;
    let stream = Stream::start(&cluster.pod("p1")?, &cluster.pod("p3")?).await?;
    let node = cluster
        .add_node("n4", |n| n.address("10.13.0.14/24").block("192.168.4.0/24"))
        .await?;
    cluster
        .add_pod("p4", |p| p.on("n4").address("192.168.4.5"))
        .await?;
    all_pairs(&cluster).await?;
    for other in cluster.nodes() {
        assert_eq!(hosts(&other, "n4").await?, "10.13.0.14 n4");
    }
    assert_eq!(hosts(&node, "n1").await?, "10.12.0.11 n1");
    stream.count().await?.none()
}

/// Proves that nothing is left of a node that was removed, and that nobody else notices.
#[rstest]
#[podlab::test]
async fn a_node_is_removed(#[values("kernel", "ebpf", "userspace")] backend: &str) -> Result<()> {
    let cluster = boot(two_subnets(Always), backend).await?;
    let stream = Stream::start(&cluster.pod("p1")?, &cluster.pod("p2")?).await?;
    let port = cluster.node("n3")?.fabric_port();
    cluster.remove_node("n3").await?;
    for node in cluster.nodes() {
        route_is(&node, "192.168.3.0/24", "none").await?;
        let left = node.routes().await?;
        let left = left
            .iter()
            .any(|r| r.gateway == Some([10, 13, 0, 13].into()));
        assert!(!left, "{} has a route by n3", node.name());
        assert_eq!(hosts(&node, "n3").await?, "");
    }
    assert!(cluster.pod("p3").is_err(), "its pod is there still");
    let datastore = cluster.datastore();
    assert!(datastore.read("nodes/n3.json").is_err());
    assert!(!datastore.path().join("endpoints/n3").exists());
    let ports = cluster.fabric().links().await?;
    assert!(!ports.iter().any(|link| link.name == port));
    all_pairs(&cluster).await?;
    stream.count().await?.none()
}

/// Proves that a node of the same name, address and blocks can come back: a machine that was
/// reinstalled.
#[rstest]
#[podlab::test]
async fn a_node_comes_back_under_its_old_name(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_subnets(Always), backend).await?;
    let old = cluster.node("n2")?;
    cluster.remove_node("n2").await?;
    let new = cluster
        .add_node("n2", |n| n.address("10.12.0.12/24").block("192.168.2.0/24"))
        .await?;
    cluster
        .add_pod("p2", |p| p.on("n2").address("192.168.2.5"))
        .await?;
    all_pairs(&cluster).await?;
    assert!(
        old.links().await.is_err(),
        "the old handle works on the new node"
    );
    let log = new.agent_log()?;
    assert_eq!(log.matches("ready: ").count(), 1, "{log}");
    Ok(())
}

/// Proves that the others follow a node to its new address, and that its own agent takes it for
/// the outer source.
#[rstest]
#[podlab::test]
async fn a_nodes_address_changes(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_subnets(Always), backend).await?;
    let (n1, n2) = (cluster.node("n1")?, cluster.node("n2")?);
    n2.set_address("10.12.0.99/24").await?;
    assert_eq!(
        addresses(&n2, "eth0").await?,
        Some(vec!["10.12.0.99/24".into()])
    );
    assert_eq!(hosts(&n1, "n2").await?, "10.12.0.99 n2");
    route_is(&n1, "192.168.2.0/24", "via 10.12.0.99 dev tunl0").await?;
    all_pairs(&cluster).await?;
    let (p1, p2) = (cluster.pod("p1")?, cluster.pod("p2")?);
    let depths = depths_on_the_wire(&cluster, &p1, &p2).await?;
    assert_eq!(depths, [1; 8]);
    Ok(())
}

/// Proves that a node can move to another subnet: its routes change from plain to encapsulated.
#[rstest]
#[podlab::test]
async fn a_node_moves_to_another_subnet(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_subnets(CrossSubnet), backend).await?;
    let (n1, n2, n3) = (
        cluster.node("n1")?,
        cluster.node("n2")?,
        cluster.node("n3")?,
    );
    n2.set_address("10.13.0.12/24").await?;
    route_is(&n1, "192.168.2.0/24", "via 10.13.0.12 dev tunl0").await?;
    route_is(&n3, "192.168.2.0/24", "via 10.13.0.12 dev eth0").await?;
    route_is(&n2, "192.168.3.0/24", "via 10.13.0.13 dev eth0").await?;
    all_pairs(&cluster).await
}

/// Proves that the routes inside the subnet follow the node's address to another interface.
#[rstest]
#[podlab::test]
async fn item_06_same_subnet_routes_follow_the_address_to_another_interface(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let mut spec = two_subnets(CrossSubnet);
    spec.nodes.remove(0);
    let spec = spec.node("n1", |n| {
        n.address("10.12.0.11/24")
            .block("192.168.1.0/24")
            .other_interface("eth1", |i| i)
    });
    let cluster = boot(spec, backend).await?;
    let (n1, p1, p2) = (cluster.node("n1")?, cluster.pod("p1")?, cluster.pod("p2")?);
    all_pairs(&cluster).await?;
    route_is(&n1, "192.168.2.0/24", "via 10.12.0.12 dev eth0").await?;
    for interface in ["eth1", "eth0"] {
        n1.move_address(interface).await?;
        assert_eq!(n1.underlay(), interface);
        let wanted = format!("via 10.12.0.12 dev {interface}");
        route_is(&n1, "192.168.2.0/24", &wanted).await?;
        route_is(&n1, "192.168.3.0/24", "via 10.13.0.13 dev tunl0").await?;
        all_pairs(&cluster).await?;
        // Both directions go by the new interface; so the other node has heard of it.
        let depths = depths_on_the_wire(&cluster, &p1, &p2).await?;
        assert_eq!(depths, [0; 8]);
        let depths = depths_on_the_wire(&cluster, &p1, &cluster.pod("p3")?).await?;
        assert_eq!(depths, [1; 8]);
    }
    Ok(())
}

/// Proves that a node with two interfaces on one network is one that is run well: only the
/// interface with the address answers for it, and where the address goes the network is told.
#[rstest]
#[podlab::test]
async fn an_address_is_answered_for_by_its_interface_and_announced_when_it_moves(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let spec = two_subnets(Always).node("n4", |n| {
        n.address("10.12.0.14/24").other_interface("eth1", |i| i)
    });
    let cluster = boot(spec, backend).await?;
    let (n1, n4) = (cluster.node("n1")?, cluster.node("n4")?);
    let mac = async |interface: &str| {
        let links = n4.links().await?;
        let link = links.iter().find(|link| link.name == interface);
        anyhow::Ok(link.and_then(|link| link.mac).expect("a MAC").0)
    };
    // Whose hardware address is said to have the node's.
    let heard = |packets: &[Captured]| -> Vec<[u8; 6]> {
        let arps = packets.iter().filter_map(|captured| captured.packet.arp());
        let own = arps.filter(|arp| arp.sender == n4.address());
        own.map(|arp| arp.sender_mac).collect()
    };
    let tap = n1.capture("eth0", &Filter::arp())?;
    n1.ping(&n4).await?;
    assert_eq!(heard(&tap.packets()), [mac("eth0").await?]);
    n4.move_address("eth1").await?;
    let announced = heard(&tap.stop().await?.packets);
    assert_eq!(announced.last(), Some(&mac("eth1").await?));
    Ok(())
}

/// Proves that a node which is gone from the datastore is isolated, and only that one.
#[rstest]
#[podlab::test]
async fn item_07_a_node_without_a_record_is_isolated_and_the_others_work_on(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const FILE: &str = "nodes/n3.json";
    let cluster = boot(connected(mode), backend).await?;
    let (p1, p2, p3) = (cluster.pod("p1")?, cluster.pod("p2")?, cluster.pod("p3")?);
    let stream = Stream::start(&p1, &p2).await?;
    let record = cluster.datastore().read(FILE)?;
    cluster.datastore().remove(FILE)?;
    for name in ["n1", "n2"] {
        route_is(&cluster.node(name)?, "192.168.3.0/24", "none").await?;
    }
    assert!(ping(&p1, &p3).await.is_err(), "n3 is reached");
    // What it sends in a tunnel is not taken either: it is no known node any more. Plain packets
    // are, as of any neighbour, but nobody has a way back.
    let arriving = p1.capture("eth0", &Filter::source(p3.address()))?;
    assert!(ping(&p3, &p1).await.is_err(), "n3 reaches others");
    let taken = arriving.stop().await?.packets;
    assert_eq!(taken.is_empty(), mode != Never, "{taken:?}");
    stream.count().await?.none()?;

    cluster.datastore().write(FILE, &record)?;
    all_pairs(&cluster).await
}

/// The line of a node's `/etc/hosts` about `name`.
async fn hosts(node: &podlab::Node, name: &str) -> Result<String> {
    let file = node.exec("cat /etc/hosts").await?.success()?.stdout;
    let line = file
        .lines()
        .find(|line| line.ends_with(&format!(" {name}")));
    Ok(line.unwrap_or_default().to_owned())
}
