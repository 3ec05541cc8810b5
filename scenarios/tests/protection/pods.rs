//! What pods may not send.

use std::net::Ipv4Addr;

use anyhow::Result;
use podlab::capture::Filter;
use podlab::probe::icmp::PingOptions;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab_scenarios::seed::{self, DEMO, DEMO_W2, TEST_TOOLS, UNDERLAY, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::setup::{ICMP, IPIP, SOON, boot, impatient, in_mode, is_from, requests_to, run};

/// No pod has it, and it is in the block of the forger's node.
const FORGED: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 99);

/// Proves that a pod cannot send under another address than its own, neither one that nobody has
/// nor that of its neighbour, although `rp_filter` is off; and that its own still passes.
#[rstest]
#[case::of_nobody_to_a_neighbour("nobody", DEMO)]
#[case::of_nobody_to_another_node("nobody", DEMO_W2)]
#[case::of_a_neighbour_to_another_node(DEMO, DEMO_W2)]
#[podlab::test]
async fn item_12_a_forged_source_is_dropped_and_the_own_one_passes(
    #[case] victim: &str,
    #[case] target: &str,
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
) -> Result<()> {
    let cluster = boot(in_mode(seed::spec(), mode), encapsulation).await?;
    let (pod, target) = (cluster.pod(TEST_TOOLS)?, cluster.pod(target)?);
    let source = match victim {
        "nobody" => FORGED,
        victim => cluster.pod(victim)?.address(),
    };
    let node = cluster.node(WORKER_1)?;
    let filters = "cat /proc/sys/net/ipv4/conf/*/rp_filter | sort -u";
    assert_eq!(run(&node, filters).await?, "0\n");

    let forged = Filter::protocol(ICMP).and(Filter::source(source));
    let sent = node.capture(pod.host_interface(), &forged)?;
    let delivered = requests_to(&target)?;
    run(&pod, &format!("ip address add {source}/32 dev eth0")).await?;
    let options = PingOptions {
        source: Some(source),
        ..impatient()
    };
    assert!(pod.ping_with(&target, &options).await.is_err());
    sent.wait_for(|_| true, SOON).await?;
    pod.ping(&target).await?;
    let delivered = delivered.stop().await?.packets;
    assert_eq!(delivered.len(), 1, "{delivered:?}");
    assert!(is_from(&delivered[0], pod.address()), "{delivered:?}");
    Ok(())
}

/// Proves that a pod cannot speak IPIP, to any node: otherwise address translation would make
/// its packets the node's own, which every other node takes.
#[rstest]
#[podlab::test]
async fn a_pod_cannot_send_tunnel_packets(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
    #[values(WORKER_1, WORKER_2)] target: &str,
) -> Result<()> {
    let mut spec = seed::spec();
    spec.pools[0].nat_outgoing = true;
    let cluster = boot(spec, encapsulation).await?;
    let pod = cluster.pod(TEST_TOOLS)?;
    let (node, target) = (cluster.node(WORKER_1)?, cluster.node(target)?);
    let rules = format!(
        "nft 'table ip t {{ chain o {{ type filter hook output priority 0; \
         ip daddr {} icmp type echo-request ip protocol set 4; }}; }}'",
        target.address()
    );
    run(&pod, &rules).await?;

    let tunnelled = Filter::protocol(IPIP);
    let sent = node.capture(pod.host_interface(), &tunnelled)?;
    let arrived = target.capture(UNDERLAY, &tunnelled)?;
    let counter = "table ip w { chain i { type filter hook input priority -10; \
         iifname cali* ip protocol 4 counter; }; }";
    run(&node, &format!("nft '{counter}'")).await?;
    assert!(pod.ping_with(&target, &impatient()).await.is_err());
    sent.wait_for(|_| true, SOON).await?;
    // By another pod, whose packets are tunnelled by the node: the one that may be there.
    cluster.pod(DEMO)?.ping(&cluster.pod(DEMO_W2)?).await?;
    let arrived = arrived.stop().await?.packets;
    assert!(
        arrived.iter().all(|p| p.packet.ipip_depth() == 1),
        "{arrived:?}"
    );
    assert!(!arrived.is_empty());
    let local = run(&node, "nft list chain ip w i").await?;
    assert!(local.contains("counter packets 0 "), "{local}");
    Ok(())
}

/// Proves that what listens on a node's loopback only is out of its pods' reach: since Calico sets
/// `route_localnet` on their interfaces, the kernel alone would deliver (CVE-2020-8558).
#[rstest]
#[podlab::test]
async fn a_pod_does_not_reach_the_nodes_loopback(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
) -> Result<()> {
    const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
    let cluster = boot(seed::spec(), encapsulation).await?;
    let (pod, node) = (cluster.pod(TEST_TOOLS)?, cluster.node(WORKER_1)?);
    // A pod that is root can do this to itself: its own loopback makes room for the node's.
    let out = "ip address del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 169.254.1.1; \
        for d in all eth0; do sysctl -qw net.ipv4.conf.$d.route_localnet=1; done";
    run(&pod, out).await?;
    let source = PingOptions {
        source: Some(pod.address()),
        ..impatient()
    };
    let sent = node.capture(pod.host_interface(), &Filter::destination(LOOPBACK))?;
    assert!(pod.ping_with(LOOPBACK, &source).await.is_err());
    sent.wait_for(|_| true, SOON).await?;
    pod.ping_with(&node, &source).await?;

    // The table alone stands in between: without it the node answers.
    node.stop_agent().await?;
    run(&node, "nft delete table ip podlab").await?;
    pod.ping_with(LOOPBACK, &source).await?;
    Ok(())
}
