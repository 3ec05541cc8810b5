//! Who reaches whom, and what a pod needs for its first step.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use podlab::capture::Filter;
use podlab::event::Protocol;
use podlab::matrix::{Expectation, Question};
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab::{Node, Pod};
use podlab_scenarios::unnumbered;
use rstest::rstest;

use crate::world::{boot, by_tunnel, connected, ping, same_subnet};

/// There is one attempt: a slow machine is not to be taken for a lost packet.
const PATIENT: Duration = Duration::from_secs(3);
/// The gateway that Calico gives every pod.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of every pod's host interface.
const HOST_MAC: [u8; 6] = [0xee; 6];

/// Proves that every pod and node reaches every other by every protocol, how many routers are
/// between them, and that each is seen under its own address: a node by its tunnel's where the
/// tunnel is used.
#[rstest]
#[podlab::test]
async fn item_01_everybody_reaches_everybody_under_the_right_address(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(connected(mode), backend).await?;
    let mut sources = HashMap::new();
    for from in cluster.nodes() {
        for to in cluster.pods() {
            let names = (from.name().to_owned(), to.name().to_owned());
            sources.insert(names, own_source(&from, &to, mode).await?);
        }
    }
    let to_pods = cluster
        .matrix()
        .from(cluster.pods())
        .from(cluster.nodes())
        .to(cluster.pods())
        .expect_each(move |question| {
            let (from, to) = (question.from.node()?, question.to.pod()?);
            let near = from.name() == to.node().name();
            let (source, ttl) = match question.from.pod() {
                Some(pod) => (pod.address(), if near { 63 } else { 62 }),
                None => {
                    let names = (from.name().to_owned(), to.name().to_owned());
                    (*sources.get(&names)?, if near { 64 } else { 63 })
                }
            };
            Some(there_and_back(question, source, ttl))
        });
    let to_nodes = cluster.matrix().all_nodes().expect_each(|question| {
        let (from, to) = (question.from.node()?, question.to.node()?);
        let ttl = if same_subnet(&from, &to) { 64 } else { 63 };
        Some(there_and_back(question, from.address(), ttl))
    });
    for matrix in [to_pods, to_nodes] {
        // Agents that are ready have nothing left to do: one round has to be right.
        let once = matrix.answer_within(PATIENT).deadline(Duration::ZERO);
        once.prove().await?;
    }
    Ok(())
}

/// The way back is as long as the way there.
fn there_and_back(question: &Question<'_>, source: Ipv4Addr, ttl: u8) -> Expectation {
    let expected = Expectation::reachable().source(source).ttl(ttl);
    match question.probe.protocol {
        Protocol::Icmp => expected.ttl_back(ttl),
        _ => expected,
    }
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
