//! What a former life has left: kept where it is right, removed where it is not.

use std::time::Duration;

use anyhow::{Context, Result};
use podlab::agent::PodlabAgent;
use podlab::probe::icmp::PingOptions;
use podlab::spec::Encapsulation::{Always, Never};
use podlab::{Cluster, Node};
use podlab_scenarios::backend;
use podlab_scenarios::flow::Flow;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1};
use rstest::rstest;

use crate::agents::Switch;
use crate::modes::{is_in, seed_in, set};
use crate::restart::SOON;

async fn ttl(cluster: &Cluster) -> Result<u8> {
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    Ok(from.ping(&to).await?.ttl)
}

async fn run(node: &Node, command: &str) -> Result<String> {
    Ok(node.exec(command).await?.success()?.stdout)
}

async fn tunnel_index(node: &Node) -> Result<u32> {
    let links = node.links().await?;
    let tunnel = links.iter().find(|link| link.name == TUNNEL);
    Ok(tunnel.context("no tunnel device")?.index)
}

/// What there is on a node beside routes, in words that do not depend on the time: devices, the
/// addresses of `tunl0`, tc programs, tables of the packet filter.
async fn equipment(node: &Node) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for link in node.links().await? {
        // The kernel's device out of service keeps the MTU that it had in service.
        let mtu = (link.name != "tunl0-ipip").then_some(link.mtu);
        all.push(format!("{} {:?} mtu {mtu:?}", link.name, link.kind));
        let filters = format!("tc filter show dev {} ingress", link.name);
        let ours = run(node, &filters).await?.matches("podlab").count();
        all.push(format!("{} programs on {}", ours, link.name));
    }
    let addresses = node.addresses().await?.into_iter();
    let tunnel = addresses.filter(|address| address.interface == TUNNEL);
    all.extend(tunnel.map(|address| address.address.to_string()));
    all.push(run(node, "nft list tables").await?);
    all.sort();
    Ok(all)
}

/// Proves that a node whose agent comes back with another backend is the same as one that had
/// this backend from the start: nothing of the other is left, nothing is missing. A device that
/// both use is kept. Prints what the change costs.
#[rstest]
#[podlab::test]
async fn a_switch_of_the_backend_leaves_nothing_of_the_other(
    #[values("kernel", "ebpf", "userspace")] one: &str,
    #[values("kernel", "ebpf", "userspace")] two: &str,
) -> Result<()> {
    let rare = if two == "kernel" { two } else { one };
    let switch = Switch::new(two);
    let cluster = backend::boot(seed::spec(), switch.clone(), rare).await?;
    let node = cluster.node(WORKER_1)?;
    let wanted = (equipment(&node).await?, node.routes().await?);
    drop(cluster);

    switch.set(PodlabAgent::with_encapsulation(one));
    let cluster = backend::boot(seed::spec(), switch.clone(), rare).await?;
    let node = cluster.node(WORKER_1)?;
    let device = tunnel_index(&node).await?;
    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;
    switch.set(PodlabAgent::with_encapsulation(two));
    node.stop_agent().await?;
    let status = node.start_agent().await?;
    assert_eq!(status.encapsulation, two);
    assert_eq!((equipment(&node).await?, node.routes().await?), wanted);
    let shared = (one == "kernel") == (two == "kernel");
    assert_eq!(tunnel_index(&node).await? == device, shared);
    assert_eq!(ttl(&cluster).await?, 62);
    for flow in flows {
        flow.count().await?;
    }
    Ok(())
}

/// Proves that an agent that starts in `never` takes the tunnel of its former life out of service,
/// programs and all, and can put it into service again.
#[rstest]
#[podlab::test]
async fn item_03_a_start_in_never_finds_the_tunnel_of_a_former_life(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = seed_in(Always, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let before = (equipment(&node).await?, node.routes().await?);
    for node in cluster.nodes() {
        node.kill_agent().await?;
    }
    set(&cluster, Never).await?;
    for node in cluster.nodes() {
        node.start_agent().await?;
    }
    is_in(&node, Never).await?;
    let addresses = node.addresses().await?.into_iter();
    let tunnel: Vec<_> = addresses.filter(|a| a.interface == TUNNEL).collect();
    assert!(tunnel.is_empty(), "{tunnel:?}");
    assert_eq!(ttl(&cluster).await?, 62);
    set(&cluster, Always).await?;
    for node in cluster.nodes() {
        if node.name() != seed::MASTER {
            is_in(&node, Always).await?;
        }
    }
    assert_eq!(ttl(&cluster).await?, 62);
    assert_eq!((equipment(&node).await?, node.routes().await?), before);
    Ok(())
}

/// Proves that what happened while no agent ran is caught up with: routes of what is gone go, of
/// what is new come, and pods of two nodes that are not concerned lose nothing. With `userspace` the
/// agent is the one that carries: what its absence costs them is printed.
#[rstest]
#[podlab::test]
async fn what_changed_while_the_agent_was_away_is_caught_up_with(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const NEW: &str = "192.168.77.0/24";
    let cluster = seed_in(Always, backend).await?;
    let node = cluster.node(WORKER_1)?;
    // Through the tunnel, whose MTU changes, to a node that stays.
    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;
    node.kill_agent().await?;
    cluster.remove_node(seed::MASTER).await?;
    cluster
        .add_node("k8s-worker-3", |n| {
            n.address("10.12.22.7/16").interface(UNDERLAY).block(NEW)
        })
        .await?;
    cluster
        .add_pod("late", |p| p.on("k8s-worker-3").address("192.168.77.7"))
        .await?;
    cluster.remove_pod(seed::ECHO_SERVER).await?;
    let pool = seed::spec().pools[0].name.clone();
    cluster
        .set_pool(&pool, |pool| pool.tunnel_mtu(1400))
        .await?;
    node.start_agent().await?;

    let routes = node.routes().await?;
    let to = |destination: &str| {
        let mut routes = routes.iter();
        routes.find(|route| route.destination.to_string() == destination)
    };
    assert_eq!(to("192.168.0.0/24"), None, "the removed node's block");
    assert_eq!(to("192.168.1.2/32"), None, "the removed pod");
    let new = to(NEW).expect("the new node's block");
    assert_eq!(new.gateway, Some([10, 12, 22, 7].into()));
    assert_eq!(new.mtu, Some(1400));
    // The agent over there has been told of its pod a moment ago.
    let (from, late) = (cluster.pod(TEST_TOOLS)?, cluster.pod("late")?);
    let options = PingOptions {
        timeout: Duration::from_millis(300),
        ..PingOptions::default()
    };
    let reply = podlab::eventually::eventually("the new pod answers", SOON, || async {
        let reply = from.ping_with(&late, &options).await;
        reply.map_err(|error| error.to_string())
    });
    assert_eq!(reply.await?.ttl, 62);
    if backend != "userspace" {
        return Flow::none_lost(flows).await;
    }
    for flow in flows {
        flow.count().await?;
    }
    Ok(())
}
