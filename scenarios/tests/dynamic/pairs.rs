//! Who reaches whom, and what a pod needs for its first step.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use podlab::capture::{Captured, Filter};
use podlab::packet::IcmpMessage;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab::{Machine, Node, Pod};
use podlab_scenarios::unnumbered;
use rstest::rstest;

use crate::world::{boot, by_tunnel, connected, ping, same_subnet};

/// The gateway that Calico gives every pod.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of every pod's host interface.
const HOST_MAC: [u8; 6] = [0xee; 6];

/// Pings `to` and returns the ttl of the answer and the source that the request had on arrival.
async fn reach(
    from: &Machine,
    to: &Machine,
    device: &str,
    address: Ipv4Addr,
) -> Result<(u8, Ipv4Addr)> {
    let arriving = to.capture(device, &Filter::destination(address))?;
    let pair = format!("{} to {}", from.name(), to.name());
    let ttl = ping(from, address).await.context(pair.clone())?;
    let request = |captured: &&Captured| {
        let icmp = captured.packet.icmp().map(|icmp| &icmp.message);
        matches!(icmp, Some(IcmpMessage::EchoRequest { .. }))
    };
    let packets = arriving.stop().await?.packets;
    let mut requests = packets.iter().filter(request);
    let header = requests
        .next()
        .and_then(|captured| captured.packet.inner_ipv4());
    let source = header
        .with_context(|| format!("{pair}: no request was seen"))?
        .source;
    ensure!(
        requests.next().is_none(),
        "{pair}: it came twice: {packets:?}"
    );
    Ok((ttl, source))
}

/// Proves that every pod and node reaches every other, how many routers are between them, and
/// that each is seen under its own address: a node by its tunnel's where the tunnel is used.
#[rstest]
#[podlab::test]
async fn item_01_everybody_reaches_everybody_under_the_right_address(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let same = |a: &Node, b: &Node| a.name() == b.name();
    for to in cluster.pods() {
        for from in cluster.pods() {
            if from.name() != to.name() {
                let ttl = if same(&from.node(), &to.node()) {
                    63
                } else {
                    62
                };
                let seen = reach(&from, &to, "eth0", to.address()).await?;
                assert_eq!(
                    seen,
                    (ttl, from.address()),
                    "{} to {}",
                    from.name(),
                    to.name()
                );
            }
        }
        for from in cluster.nodes() {
            let ttl = if same(&from, &to.node()) { 64 } else { 63 };
            let seen = reach(&from, &to, "eth0", to.address()).await?;
            assert_eq!(
                seen,
                (ttl, own_source(&from, &to, mode).await?),
                "{} to {}",
                from.name(),
                to.name()
            );
        }
    }
    for to in cluster.nodes() {
        for from in cluster.nodes() {
            if !same(&from, &to) {
                let ttl = if same_subnet(&from, &to) { 64 } else { 63 };
                let seen = reach(&from, &to, &to.underlay(), to.address()).await?;
                assert_eq!(
                    seen,
                    (ttl, from.address()),
                    "{} to {}",
                    from.name(),
                    to.name()
                );
            }
        }
    }
    Ok(())
}

/// The address under which a node talks to a pod: its tunnel's where the tunnel leads there.
async fn own_source(from: &Node, to: &Pod, mode: Encapsulation) -> Result<Ipv4Addr> {
    let there = to.node();
    if from.name() == there.name() {
        return Ok(unnumbered::source(from).await?);
    }
    Ok(match by_tunnel(from, &there, mode) {
        // The first address of its block.
        true => Ipv4Addr::new(192, 168, from.address().octets()[3] - 10, 0),
        false => from.address(),
    })
}

/// Proves that a pod's question for its gateway, which nobody has, is answered, and by whom: it
/// is the first packet of any pod, and without the answer there is no second one.
#[rstest]
#[podlab::test]
async fn item_13_a_pods_question_for_its_gateway_is_answered(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let (p1, p3) = (cluster.pod("p1")?, cluster.pod("p3")?);
    let tap = p1.capture("eth0", &Filter::arp())?;
    ping(&p1, &p3).await?;
    let packets = tap.stop().await?.packets;
    let arps = || packets.iter().filter_map(|captured| captured.packet.arp());
    assert!(
        arps().any(|arp| arp.sender == p1.address() && arp.target == GATEWAY),
        "the pod did not ask: {packets:?}"
    );
    let answers: Vec<_> = arps().filter(|arp| arp.sender == GATEWAY).collect();
    assert_eq!(answers.len(), 1, "{packets:?}");
    assert_eq!(answers[0].sender_mac, HOST_MAC);
    Ok(())
}
