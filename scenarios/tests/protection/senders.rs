//! Who may send tunnel packets to a node.

use std::net::Ipv4Addr;

use anyhow::Result;
use nix::sys::signal::Signal;
use podlab::capture::Filter;
use podlab::process::Program;
use podlab::spec::ClusterSpec;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet};
use podlab::{Cluster, Machine, Node};
use podlab_scenarios::seed::{self, DEMO_W2, MASTER, TEST_TOOLS, UNDERLAY, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::setup::{
    IPIP, SOON, boot, impatient, in_mode, is_from, requests_to, route_is_gone, run, table_says,
};

const STRANGER: &str = "stranger";
const STRANGERS_POD: &str = "pod-of-the-stranger";

/// The seed's cluster and a machine that knows it, but will not be known to it.
fn with_stranger() -> ClusterSpec {
    seed::spec()
        .node(STRANGER, |node| {
            node.address("10.12.99.1/16")
                .interface(UNDERLAY)
                .block("192.168.99.0/24")
        })
        .pod(STRANGERS_POD, |pod| {
            pod.on(STRANGER).address("192.168.99.9").container("tools")
        })
}

/// Makes the others forget the stranger, who keeps its own network; an administrator's route on
/// worker 1 leads its answers back.
async fn expel(cluster: &Cluster) -> Result<Node> {
    let node = cluster.node(WORKER_1)?;
    let datastore = cluster.datastore();
    datastore.remove("nodes/stranger.json")?;
    datastore.remove("endpoints/stranger/default.pod-of-the-stranger.json")?;
    route_is_gone(&node, "192.168.99.0/24").await?;
    let route = "ip route add 192.168.99.0/24 via 10.12.99.1 dev tunl0 onlink proto static";
    run(&node, route).await?;
    Ok(node)
}

/// Fails if a ping of the stranger comes further than the node's underlay interface.
async fn is_blocked(cluster: &Cluster) -> Result<()> {
    let (node, pod) = (cluster.node(WORKER_1)?, cluster.pod(TEST_TOOLS)?);
    let stranger = cluster.pod(STRANGERS_POD)?;
    let towards =
        Filter::protocol(IPIP).and(Filter::destination(cluster.node(STRANGER)?.address()));
    let sent = node.capture(UNDERLAY, &towards)?;
    let outer = Filter::protocol(IPIP).and(Filter::source(cluster.node(STRANGER)?.address()));
    let arrived = node.capture(UNDERLAY, &outer)?;
    let delivered = requests_to(&pod)?;
    let ping = stranger.ping_with(&pod, &impatient()).await;
    assert!(ping.is_err(), "a stranger got an answer: {ping:?}");
    arrived.wait_for(|_| true, SOON).await?;
    // A node's ping goes the same way; once it is there, the stranger's would be, too.
    cluster.pod(DEMO_W2)?.ping(&pod).await?;
    let delivered = delivered.stop().await?.packets;
    assert!(
        !delivered.iter().any(|p| is_from(p, stranger.address())),
        "{delivered:?}"
    );
    assert_eq!(delivered.len(), 1, "{delivered:?}");
    // Nor is anything sent to it, although a route leads there.
    assert!(pod.ping_with(&stranger, &impatient()).await.is_err());
    pod.ping(&cluster.pod(DEMO_W2)?).await?;
    let sent = sent.stop().await?.packets;
    assert!(sent.is_empty(), "{sent:?}");
    Ok(())
}

/// Fails if anybody's ping reaches the pod from another node.
async fn is_cut_off(cluster: &Cluster) -> Result<()> {
    let pod = cluster.pod(TEST_TOOLS)?;
    let delivered = requests_to(&pod)?;
    for name in [STRANGERS_POD, DEMO_W2] {
        let ping = cluster.pod(name)?.ping_with(&pod, &impatient()).await;
        assert!(ping.is_err(), "{name} got an answer: {ping:?}");
    }
    let delivered = delivered.stop().await?.packets;
    assert!(delivered.is_empty(), "{delivered:?}");
    Ok(())
}

/// Makes every echo request of a machine to `target` a packet of protocol 4.
async fn disguise(machine: &Machine, target: Ipv4Addr) -> Result<()> {
    let chain = "type filter hook output priority -10";
    let rule = format!("ip daddr {target} icmp type echo-request ip protocol set 4");
    run(
        machine,
        &format!("nft 'table ip t {{ chain o {{ {chain}; {rule}; }}; }}'"),
    )
    .await?;
    Ok(())
}

/// Proves that the table guards what no backend's own program looks at: tunnel packets to
/// another address of the node, even from a peer, do not come in.
#[rstest]
#[podlab::test]
async fn tunnel_packets_to_another_address_of_the_node_are_dropped(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
) -> Result<()> {
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 200);
    let cluster = boot(seed::spec(), encapsulation).await?;
    let (node, peer) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    run(&node, &format!("ip address add {OTHER}/32 dev {UNDERLAY}")).await?;
    let count = |name: &str, priority: i8| {
        format!(
            "chain {name} {{ type filter hook input priority {priority}; \
             ip daddr {OTHER} ip protocol 4 counter; }};"
        )
    };
    let chains = [count("before", -10), count("after", 10)].concat();
    run(&node, &format!("nft 'table ip w {{ {chains} }}'")).await?;
    // The peer's own table would not let it out; what is proven is the receiver's.
    peer.stop_agent().await?;
    run(&peer, "nft delete table ip podlab").await?;
    disguise(&peer, OTHER).await?;
    assert!(peer.ping_with(OTHER, &impatient()).await.is_err());
    let before = run(&node, "nft list chain ip w before").await?;
    assert!(before.contains("counter packets 1 "), "{before}");
    let after = run(&node, "nft list chain ip w after").await?;
    assert!(after.contains("counter packets 0 "), "{after}");
    Ok(())
}

/// Proves that no program on a node sends tunnel packets to anybody but nodes and what is listed
/// as external.
#[rstest]
#[podlab::test]
async fn a_node_sends_tunnel_packets_to_known_addresses_only(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
) -> Result<()> {
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 200);
    let cluster = boot(seed::spec(), encapsulation).await?;
    let (node, fabric) = (cluster.node(WORKER_1)?, cluster.fabric());
    run(fabric, &format!("ip address add {OUTSIDE}/32 dev lo")).await?;
    node.ping(OUTSIDE).await?;
    disguise(&node, OUTSIDE).await?;
    let sent = Filter::protocol(IPIP).and(Filter::destination(OUTSIDE));
    let sent = node.capture(UNDERLAY, &sent)?;
    assert!(node.ping_with(OUTSIDE, &impatient()).await.is_err());
    assert!(sent.packets().is_empty(), "{:?}", sent.packets());

    let config = format!(r#"{{"external_nodes":["{OUTSIDE}/32"]}}"#);
    cluster
        .datastore()
        .write("config.json", config.as_bytes())?;
    table_says(&node, &OUTSIDE.to_string(), true).await?;
    assert!(node.ping_with(OUTSIDE, &impatient()).await.is_err());
    let sent = sent.stop().await?.packets;
    assert_eq!(sent.len(), 1, "{sent:?}");
    Ok(())
}

/// Proves that tunnel packets are taken from nodes only, and from a stranger once it is listed
/// as external; and that both hold while the agent is stopped. With `userspace` the agent is the
/// one that carries, so a stopped one lets nobody in.
#[rstest]
#[podlab::test]
async fn item_04_a_stranger_is_blocked_until_it_is_listed_as_external(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
    #[values("10.12.99.1/32", "10.12.96.0/20")] external: &str,
    #[values(Always, CrossSubnet)] mode: Encapsulation,
) -> Result<()> {
    let cluster = boot(in_mode(with_stranger(), mode), encapsulation).await?;
    let (pod, stranger) = (cluster.pod(TEST_TOOLS)?, cluster.pod(STRANGERS_POD)?);
    stranger.ping(&pod).await?;
    let node = expel(&cluster).await?;
    is_blocked(&cluster).await?;
    node.stop_agent().await?;
    match encapsulation {
        "userspace" => is_cut_off(&cluster).await?,
        _ => is_blocked(&cluster).await?,
    }
    node.start_agent().await?;
    is_blocked(&cluster).await?;

    let config = format!(r#"{{"external_nodes":["{external}"]}}"#);
    cluster
        .datastore()
        .write("config.json", config.as_bytes())?;
    let element = external.strip_suffix("/32").unwrap_or(external);
    table_says(&node, element, true).await?;
    podlab::eventually::eventually("the stranger is let in", SOON, || async {
        stranger.ping_with(&pod, &impatient()).await.map(drop)
    })
    .await?;
    node.stop_agent().await?;
    match encapsulation {
        "userspace" => is_cut_off(&cluster).await?,
        _ => drop(stranger.ping(&pod).await?),
    }
    node.start_agent().await?;
    stranger.ping(&pod).await?;

    cluster.datastore().remove("config.json")?;
    table_says(&node, element, false).await?;
    // The backend's own list comes after the table, and routes come after both.
    let mark = r#"{"address":"10.12.22.77/16","blocks":["192.168.77.0/24"]}"#;
    cluster
        .datastore()
        .write("nodes/mark.json", mark.as_bytes())?;
    podlab::eventually::eventually("the mark's route is there", SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        let mut gateways = routes.iter().filter_map(|route| route.gateway);
        let there = gateways.any(|gateway| gateway == Ipv4Addr::new(10, 12, 22, 77));
        there.then_some(()).ok_or_else(|| format!("{routes:?}"))
    })
    .await?;
    is_blocked(&cluster).await?;
    Ok(())
}

/// Proves that the guard never looks away: while a stranger floods the node, fifty changes of the
/// datastore rewrite the table and the backend's own list, and none of its packets is delivered.
#[rstest]
#[podlab::test]
async fn a_flood_finds_no_gap_while_the_table_is_replaced(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
) -> Result<()> {
    const CHANGES: usize = 50;
    let cluster = boot(with_stranger(), encapsulation).await?;
    let (pod, stranger) = (cluster.pod(TEST_TOOLS)?, cluster.pod(STRANGERS_POD)?);
    stranger.ping(&pod).await?;
    let node = expel(&cluster).await?;
    let outer = Filter::protocol(IPIP).and(Filter::source(cluster.node(STRANGER)?.address()));
    let arrived = node.capture(UNDERLAY, &outer)?;
    let delivered = pod.capture("eth0", &Filter::source(stranger.address()))?;
    let target = pod.address().to_string();
    // One that gets no answers sends no more than 100 a second, however short its interval.
    let ping = Program::new("ping").args(["-n", "-q", "-i", "0.01", &target]);
    let flood: Result<Vec<_>, _> = (0..16).map(|_| stranger.spawn(ping.clone())).collect();
    arrived.wait_for(|_| true, SOON).await?;
    for change in 0..CHANGES {
        let address = format!("10.12.40.{change}");
        let record = format!(r#"{{"address":"{address}/16","blocks":["192.168.9.0/24"]}}"#);
        let datastore = cluster.datastore();
        datastore.write("nodes/other.json", record.as_bytes())?;
        table_says(&node, &address, true).await?;
    }
    for ping in flood? {
        ping.stop(Signal::SIGINT).await?;
    }
    // Peers were served all the time, and this one closes the list of what was delivered.
    cluster.pod(DEMO_W2)?.ping(&pod).await?;
    let (arrived, delivered) = (arrived.stop().await?, delivered.stop().await?);
    assert!(
        arrived.packets.len() > 4 * CHANGES,
        "{} packets are no flood",
        arrived.packets.len()
    );
    assert!(delivered.packets.is_empty(), "{:?}", delivered.packets);
    Ok(())
}

/// Proves that the scenarios would notice a broken allow-list: with every agent frozen, one peer
/// is removed from one node's list by hand, and what this node takes from that peer fails, and
/// what it sends to it, which the list mirrors; no other pair does.
///
/// For `kernel` the list is the set of the table. That of `ebpf` is a map of the program, and
/// is changed by hand through the program's map. `userspace` has no case: a frozen agent carries
/// nothing, and one that runs would put the list right.
#[rstest]
#[podlab::test]
async fn item_08_a_peer_removed_by_hand_fails_in_that_direction_only(
    #[values("kernel", "ebpf")] encapsulation: &str,
    #[values(Always, CrossSubnet)] mode: Encapsulation,
) -> Result<()> {
    let spec = seed::spec().pod("on-master", |pod| {
        pod.on(MASTER).address("192.168.0.9").container("tools")
    });
    let cluster = boot(in_mode(spec, mode), encapsulation).await?;
    let (node, peer) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let (one, two) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let master = cluster.pod("on-master")?;
    for node in cluster.nodes() {
        let agent = node.agent_id().expect("an agent runs");
        run(&node, &format!("kill -STOP {agent}")).await?;
    }
    match encapsulation {
        "ebpf" => crate::by_hand::remove_peer(&node, peer.address()).await?,
        _ => {
            let element = format!("ip podlab nodes {{ {} }}", peer.address());
            run(&node, &format!("nft delete element {element}")).await?;
        }
    }

    let (at_one, at_two) = (requests_to(&one)?, requests_to(&two)?);
    let outer = Filter::protocol(IPIP).and(Filter::source(peer.address()));
    let arrived = node.capture(UNDERLAY, &outer)?;
    assert!(two.ping_with(&one, &impatient()).await.is_err());
    arrived.wait_for(|_| true, SOON).await?;
    let towards = Filter::protocol(IPIP).and(Filter::destination(peer.address()));
    let sent = node.capture(UNDERLAY, &towards)?;
    assert!(one.ping_with(&two, &impatient()).await.is_err());
    // Every other pair still works, through the same tables and programs.
    for (a, b) in [
        (&one, &master),
        (&master, &one),
        (&two, &master),
        (&master, &two),
    ] {
        a.ping(b).await?;
    }
    let at_one = at_one.stop().await?.packets;
    assert!(
        !at_one.iter().any(|p| is_from(p, two.address())),
        "{at_one:?}"
    );
    let sent = sent.stop().await?.packets;
    assert!(sent.is_empty(), "{sent:?}");
    let at_two = at_two.stop().await?.packets;
    assert!(
        !at_two.iter().any(|p| is_from(p, one.address())),
        "{at_two:?}"
    );
    assert!(
        at_two.iter().any(|p| is_from(p, master.address())),
        "{at_two:?}"
    );

    for node in cluster.nodes() {
        let agent = node.agent_id().expect("an agent runs");
        run(&node, &format!("kill -CONT {agent}")).await?;
    }
    Ok(())
}
