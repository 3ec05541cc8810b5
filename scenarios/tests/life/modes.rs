//! Modes that change while pods talk.

use anyhow::Result;
use podlab::capture::Filter;
use podlab::netlink::Route;
use podlab::probe::icmp::PingOptions;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab::{Cluster, Node};
use podlab_scenarios::flow::Flow;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::agents::boot;
use crate::restart::SOON;

/// The seed's cluster in another mode; all its nodes are in one subnet.
pub(crate) async fn seed_in(mode: Encapsulation, backend: &str) -> Result<Cluster> {
    let mut spec = seed::spec();
    for pool in &mut spec.pools {
        pool.encapsulation = mode;
    }
    boot(spec, backend).await
}

pub(crate) async fn set(cluster: &Cluster, mode: Encapsulation) -> Result<()> {
    let pool = seed::spec().pools[0].name.clone();
    Ok(cluster
        .set_pool(&pool, |pool| pool.encapsulation(mode))
        .await?)
}

/// Waits until a node sends to the other worker's pods as the mode says.
pub(crate) async fn is_in(node: &Node, mode: Encapsulation) -> Result<()> {
    let device = if mode == Always { TUNNEL } else { UNDERLAY };
    let block = match node.name() {
        WORKER_1 => "192.168.2.0/24",
        _ => "192.168.1.0/24",
    };
    let what = format!("{} sends to {block} by {device}", node.name());
    let by = |routes: &[Route]| {
        let route = routes.iter().find(|r| r.destination.to_string() == block)?;
        route.interface.clone()
    };
    podlab::eventually::eventually(what, SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        match by(&routes).as_deref() == Some(device) {
            true => Ok(()),
            false => Err(format!("{routes:?}")),
        }
    })
    .await?;
    Ok(())
}

/// Proves that every change of mode of a live cluster goes unnoticed by pods whose path stays
/// valid, back and forth, a thousand packets a second in each direction.
#[rstest]
#[podlab::test]
async fn item_03_a_change_of_mode_loses_nothing(
    #[values((Always, CrossSubnet), (Always, Never), (CrossSubnet, Never))] modes: (
        Encapsulation,
        Encapsulation,
    ),
    #[values(false, true)] the_other_first: bool,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let (one, two) = match the_other_first {
        true => (modes.1, modes.0),
        false => modes,
    };
    let cluster = seed_in(one, backend).await?;
    let nodes = [cluster.node(WORKER_1)?, cluster.node(WORKER_2)?];
    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;
    for mode in [two, one, two] {
        set(&cluster, mode).await?;
        for node in &nodes {
            is_in(node, mode).await?;
        }
    }
    Flow::none_lost(flows).await
}

/// Proves that a packet which is on its way through the tunnel's device while the mode changes goes
/// where its old route led, as an ipip device sends it: it is lost where the backend asks the routing
/// table once more and finds the new route.
#[rstest]
#[podlab::test]
async fn a_packet_that_waits_in_the_tunnel_while_the_mode_changes_arrives(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = seed_in(Always, backend).await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let (node, peer) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let queue = |command: String| {
        let node = node.clone();
        async move {
            let done = node.exec(format!("tc -s qdisc {command}").as_str()).await?;
            Ok::<_, anyhow::Error>(done.success()?)
        }
    };
    // Room for one packet in the first two minutes.
    let few = "tbf rate 8bit burst 110b limit 9kb";
    queue(format!("add dev {TUNNEL} root {few}")).await?;
    from.ping(&to).await?;
    let patient = PingOptions {
        timeout: 2 * SOON,
        ..PingOptions::default()
    };
    let (there, address) = (from.clone(), to.address());
    let waiting = tokio::spawn(async move { there.ping_with(address, &patient).await });
    podlab::eventually::eventually("a packet waits in the tunnel", SOON, || async {
        let told = queue(format!("show dev {TUNNEL}")).await;
        let told = told.map_err(|error| error.to_string())?.stdout;
        match told.contains("b 1p requeues") {
            true => Ok(()),
            false => Err(told),
        }
    })
    .await?;
    set(&cluster, Never).await?;
    for node in [&node, &peer] {
        is_in(node, Never).await?;
    }
    let sent = node.capture(UNDERLAY, &Filter::protocol(4))?;
    // Whatever comes into the queue next takes along what waits there.
    let many = "tbf rate 1gbit burst 99kb limit 9kb";
    queue(format!("change dev {TUNNEL} root {many}")).await?;
    let next = format!("ping -c 1 -W 1 -I {TUNNEL} {}", peer.address());
    node.exec(next.as_str()).await?;
    waiting.await??;
    let packets = sent.stop().await?.packets;
    let wrapped = packets.iter().filter(|captured| {
        let inner = captured.packet.inner_ipv4();
        inner.is_some_and(|ip| (ip.source, ip.destination) == (from.address(), to.address()))
    });
    assert_eq!(wrapped.count(), 1);
    Ok(())
}
