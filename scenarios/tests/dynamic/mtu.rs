//! The tunnel's MTU while the underlay's changes.

use anyhow::Result;
use podlab::Node;
use podlab::probe::icmp::PingOptions;
use podlab::spec::Encapsulation::Always;

use crate::world::{POOL, all_pairs, route, route_is, soon, two_subnets};

/// Proves that the tunnel follows the underlay down and up: packets that do not fit would be
/// lost without a word.
#[tokio::test]
async fn item_02_the_tunnel_is_20_bytes_less_than_the_underlay() -> Result<()> {
    let cluster = two_subnets(Always).boot().await?;
    let (n1, n2) = (cluster.node("n1")?, cluster.node("n2")?);
    let pod = cluster.pod("p1")?.links().await?;
    tunnel_mtu_is(&n1, 1480).await?;
    for (underlay, tunnel) in [(1400, 1380), (9000, 8980), (1500, 1480)] {
        n1.set_underlay_mtu(underlay).await?;
        tunnel_mtu_is(&n1, tunnel).await?;
        tunnel_mtu_is(&n2, 1480).await?;
        all_pairs(&cluster).await?;
    }
    // Pods that run keep their interface as it was made.
    assert_eq!(cluster.pod("p1")?.links().await?, pod);
    Ok(())
}

/// Proves that what the administrator says holds, whatever the underlay does.
#[tokio::test]
async fn item_02_an_explicit_mtu_wins() -> Result<()> {
    let cluster = two_subnets(Always).boot().await?;
    let n1 = cluster.node("n1")?;
    cluster.set_pool(POOL, |pool| pool.tunnel_mtu(1300)).await?;
    tunnel_mtu_is(&n1, 1300).await?;
    n1.set_underlay_mtu(1400).await?;
    // When the routes of this later block are there, the agent has seen the new underlay.
    n1.add_block("192.168.9.0/24").await?;
    route_is(&n1, "192.168.9.0/24", "blackhole").await?;
    tunnel_mtu_is(&n1, 1300).await?;
    cluster.set_pool(POOL, |pool| pool.tunnel_mtu(1330)).await?;
    tunnel_mtu_is(&n1, 1330).await?;
    all_pairs(&cluster).await
}

/// Proves that a narrow interface which is down does not narrow the tunnel.
#[tokio::test]
async fn item_02_an_interface_that_is_down_does_not_count() -> Result<()> {
    let spec = two_subnets(Always).node("n4", |n| {
        n.address("10.13.0.14/24")
            .block("192.168.4.0/24")
            .other_interface("eth1", |i| i.mtu(1300))
    });
    let cluster = spec.boot().await?;
    let n4 = cluster.node("n4")?;
    n4.set_link_up("eth1", false).await?;
    tunnel_mtu_is(&n4, 1480).await?;
    n4.set_underlay_mtu(1400).await?;
    tunnel_mtu_is(&n4, 1380).await
}

/// Proves that the fabric grows with its nodes: a bridge that stays narrow drops without a word.
#[tokio::test]
async fn a_wider_underlay_carries_wider_packets() -> Result<()> {
    let cluster = two_subnets(Always).boot().await?;
    let (n1, n2) = (cluster.node("n1")?, cluster.node("n2")?);
    let widest = PingOptions {
        payload: 9000 - 28,
        dont_fragment: true,
        ..PingOptions::default()
    };
    assert!(n1.ping_with(&n2, &widest).await.is_err());
    for node in [&n1, &n2] {
        node.set_underlay_mtu(9000).await?;
    }
    n1.ping_with(&n2, &widest).await?;
    Ok(())
}

/// Waits until `tunl0` and the routes into it have this MTU.
async fn tunnel_mtu_is(node: &Node, mtu: u32) -> Result<()> {
    let what = format!("{}: the tunnel's MTU is {mtu}", node.name());
    let elsewhere = match node.name() {
        "n3" => "192.168.2.0/24",
        _ => "192.168.3.0/24",
    };
    soon(what, || async {
        let links = node.links().await?;
        let tunnel = links.iter().find(|link| link.name == "tunl0");
        let device = tunnel.map(|link| link.mtu);
        anyhow::ensure!(device == Some(mtu), "the device has {device:?}");
        let route = route(node, elsewhere).await?.and_then(|route| route.mtu);
        anyhow::ensure!(route == Some(mtu), "the route has {route:?}");
        Ok(())
    })
    .await
}
