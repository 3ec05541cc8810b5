//! What the scenarios ask of a network, each as a question that one can ask of any cluster.

use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use podlab::capture::{CaptureSet, Captured, Filter, Tap};
use podlab::event::Protocol;
use podlab::expect::{ANYBODY, icmp, ip, ipip};
use podlab::matrix::{Expectation, MatrixBuilder, Probe};
use podlab::netlink::{Route, RouteKind};
use podlab::packet::ChecksumVerdict;
use podlab::probe::icmp::PingOptions;
use podlab::{Machine, Node, Pod};

use super::World;
use crate::seed::TUNNEL;

/// A question to a cluster.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name in the table.
    pub name: &'static str,
    /// Fails where the network is not as it should be.
    pub ask: for<'a> fn(&'a World) -> Asking<'a>,
}

/// See [`Check::ask`].
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// All of them.
pub const ALL: [Check; 10] = [
    Check {
        name: "icmp",
        ask: |world| Box::pin(every_pair(world, Protocol::Icmp)),
    },
    Check {
        name: "tcp",
        ask: |world| Box::pin(every_pair(world, Protocol::Tcp)),
    },
    Check {
        name: "udp",
        ask: |world| Box::pin(every_pair(world, Protocol::Udp)),
    },
    Check {
        name: "http",
        ask: |world| Box::pin(every_pair(world, Protocol::Http)),
    },
    Check {
        name: "full-size",
        ask: |world| Box::pin(full_size(world)),
    },
    Check {
        name: "loss",
        ask: |world| Box::pin(loss(world)),
    },
    Check {
        name: "packets",
        ask: |world| Box::pin(packets(world)),
    },
    Check {
        name: "routes",
        ask: |world| Box::pin(routes(world)),
    },
    Check {
        name: "unassigned",
        ask: |world| Box::pin(unassigned(world)),
    },
    Check {
        name: "gateway",
        ask: |world| Box::pin(gateway(world)),
    },
];

/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(400);

async fn answers(from: &Machine, to: Ipv4Addr, options: PingOptions) -> Result<u8> {
    let options = PingOptions {
        timeout: ANSWER,
        ..options
    };
    let reply = from.ping_with(to, &options).await;
    Ok(reply
        .with_context(|| format!("{} to {to}", from.name()))?
        .ttl)
}

/// A matrix that is given up soon: here nothing converges, it works or it does not.
fn impatient(matrix: MatrixBuilder) -> MatrixBuilder {
    matrix.answer_within(ANSWER).deadline(ANSWER)
}

/// Every pod reaches every other by its own address, and the ttl tells the number of nodes on the
/// way.
async fn every_pair(world: &World, protocol: Protocol) -> Result<()> {
    let matrix = world.cluster.matrix().all_pods().protocols([protocol]);
    let matrix = matrix.expect_each(|question| {
        let (from, to) = (question.from.pod()?, question.to.pod()?);
        let ttl = match from.node().name() == to.node().name() {
            true => 63,
            false => 62,
        };
        Some(Expectation::reachable().source(from).ttl(ttl))
    });
    impatient(matrix).prove().await?;
    Ok(())
}

/// What the pods' own MTU allows gets through whole.
async fn full_size(world: &World) -> Result<()> {
    const HEADERS: u32 = 28;
    for (from, to) in [(&world.from, &world.to), (&world.to, &world.from)] {
        let whole = Probe::icmp(world.mtu_of(from).await? - HEADERS).dont_fragment();
        let matrix = world.cluster.matrix().from([from]).to([to]);
        impatient(matrix.probes([whole])).prove().await?;
    }
    Ok(())
}

/// None of many is lost.
async fn loss(world: &World) -> Result<()> {
    const COUNT: u32 = 30;
    let none = Expectation::reachable().lost(0..=0, COUNT);
    let matrix = world.cluster.matrix().from([&world.from]).to([&world.to]);
    let matrix = matrix.protocols([Protocol::Icmp]).expect(none);
    impatient(matrix).prove().await?;
    Ok(())
}

/// Between the nodes there is one tunnel packet each way, from node to node, around the very
/// packet that was sent; nothing plain is on any underlay, and the third node sees none of it.
async fn packets(world: &World) -> Result<()> {
    let (from, to, near, far) = (&world.from, &world.to, &world.near, &world.far);
    let taps = world.cluster.capture().path(from, to).node(&world.third);
    let taps = taps.no_file().start().await?;
    let answer = answers(from, to.address(), PingOptions::default()).await;
    let request = || icmp(from, to).echo_request();
    let reply = || icmp(to, from).echo_reply();
    for node in [near, far] {
        taps.on(node.underlay_tap())
            .exactly(1, ipip(near, far).ttl(63).around(request().ttl(63)))
            .exactly(1, ipip(far, near).ttl(63).around(reply().ttl(63)))
            .none(ip(from, ANYBODY).or(ip(ANYBODY, from)))
            .now()?;
    }
    taps.on(world.third.underlay_tap())
        .none(request().at_any_depth().or(reply().at_any_depth()))
        .now()?;
    let sent = first(&taps, &from.tap("eth0"), from)?;
    for tap in [near.tap(TUNNEL), far.tap(TUNNEL), to.tap("eth0")] {
        is_the_same(&sent, &first(&taps, &tap, from)?)?;
    }
    answer.map(drop)
}

/// The first packet of a pod at a tap.
fn first(taps: &CaptureSet, tap: &Tap, from: &Pod) -> Result<Captured> {
    let mut seen = taps.packets_at(tap)?.into_iter();
    let found = seen.find(|captured| {
        let header = captured.packet.inner_ipv4();
        header.is_some_and(|header| header.source == from.address())
    });
    found.with_context(|| format!("{tap} saw nothing of {}", from.name()))
}

fn is_the_same(sent: &Captured, arrived: &Captured) -> Result<()> {
    if let Some(ChecksumVerdict::Wrong { found, expected }) = arrived.transport_checksum() {
        bail!("checksum {found:#06x} instead of {expected:#06x}: {arrived}");
    }
    let same = sent.canonical_inner() == arrived.canonical_inner();
    ensure!(same, "{arrived} is not what was sent: {sent}");
    Ok(())
}

/// The route tables are those of the document.
async fn routes(world: &World) -> Result<()> {
    for node in world.cluster.nodes() {
        let routes = node.routes().await?;
        for other in world.cluster.nodes() {
            for block in other.blocks() {
                let route = routes.iter().find(|route| route.destination == block);
                let found = words(route);
                let expected = block_route(&node, &other);
                let name = node.name();
                ensure!(found == expected, "{name}: {block} {found}, not {expected}");
            }
        }
        for pod in pods_on(world, &node) {
            let mut own = routes.iter();
            let route = own.find(|route| route.destination == pod.address().into());
            let expected = format!("dev {}", pod.host_interface());
            let found = words(route);
            ensure!(found == expected, "{}: {found}, not {expected}", pod.name());
        }
    }
    Ok(())
}

fn block_route(node: &Node, owner: &Node) -> String {
    match node.name() == owner.name() {
        true => "blackhole".to_owned(),
        false => format!("via {} dev {TUNNEL}", owner.address()),
    }
}

fn pods_on(world: &World, node: &Node) -> Vec<Pod> {
    let pods = world.cluster.pods().into_iter();
    pods.filter(|pod| pod.node().name() == node.name())
        .collect()
}

fn words(route: Option<&Route>) -> String {
    let Some(route) = route else {
        return "is missing".to_owned();
    };
    let device = route.interface.as_deref().unwrap_or_default();
    match (route.kind, route.gateway) {
        (RouteKind::Unicast, Some(gateway)) => format!("via {gateway} dev {device}"),
        (RouteKind::Unicast, None) => format!("dev {device}"),
        (kind, _) => format!("{kind:?}").to_lowercase(),
    }
}

/// What is sent to an address that nobody has does not leave the node that owns it.
async fn unassigned(world: &World) -> Result<()> {
    let target = world.unassigned();
    let wire = world
        .near
        .capture(world.near.underlay(), &Filter::destination(target))?;
    let answer = answers(&world.from, target, PingOptions::default()).await;
    ensure!(answer.is_err(), "somebody has {target}");
    let left = wire.stop().await?.packets;
    match left.first() {
        Some(captured) => bail!("it left: {captured}"),
        None => Ok(()),
    }
}

/// A pod that has forgotten its gateway finds it again.
async fn gateway(world: &World) -> Result<()> {
    for pod in world.cluster.pods() {
        world.run(&pod, "ip neighbour flush dev eth0").await?;
        answers(&pod, pod.node().address(), PingOptions::default()).await?;
    }
    Ok(())
}
