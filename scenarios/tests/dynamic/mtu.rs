//! The tunnel's MTU while the underlay's changes. In `never` nothing goes through the tunnel, so
//! nothing depends on its MTU.

use anyhow::Result;
use podlab::Node;
use podlab::agent::FOLDER;
use podlab::probe::icmp::PingOptions;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};

use rstest::rstest;

use crate::world::{POOL, all_pairs, boot, route, route_is, soon, two_subnets};

/// Proves that the tunnel follows the underlay down and up: packets that do not fit would be
/// lost without a word.
#[rstest]
#[podlab::test]
async fn item_02_the_tunnel_is_20_bytes_less_than_the_underlay(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[values(Always, CrossSubnet)] mode: Encapsulation,
) -> Result<()> {
    let cluster = boot(two_subnets(mode), backend).await?;
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
#[rstest]
#[podlab::test]
async fn item_02_an_explicit_mtu_wins(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[values(Always, CrossSubnet)] mode: Encapsulation,
) -> Result<()> {
    let cluster = boot(two_subnets(mode), backend).await?;
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

/// Proves that packets fit by whichever interface they come and go: the narrowest one that is up
/// counts, and from the moment that it is.
#[rstest]
#[podlab::test]
async fn item_02_the_lowest_interface_that_is_up_counts(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[values(Always, CrossSubnet)] mode: Encapsulation,
) -> Result<()> {
    let spec = two_subnets(mode).node("n4", |n| {
        n.address("10.13.0.14/24")
            .block("192.168.4.0/24")
            .other_interface("eth1", |i| i.mtu(1300))
    });
    let cluster = boot(spec, backend).await?;
    let n4 = cluster.node("n4")?;
    tunnel_mtu_is(&n4, 1280).await?;
    n4.set_link_up("eth1", false).await?;
    tunnel_mtu_is(&n4, 1480).await?;
    n4.set_underlay_mtu(1400).await?;
    tunnel_mtu_is(&n4, 1380).await?;
    n4.set_link_up("eth1", true).await?;
    tunnel_mtu_is(&n4, 1280).await?;
    all_pairs(&cluster).await?;

    // Whoever knows better says so, without a restart.
    let config = cluster.datastore();
    config.write("config.json", br#"{"mtu_interface_pattern":"^eth0$"}"#)?;
    tunnel_mtu_is(&n4, 1380).await?;
    config.write("config.json", b"{}")?;
    tunnel_mtu_is(&n4, 1280).await
}

/// Proves that interfaces which carry nothing between nodes do not narrow the tunnel: it would
/// shrink with the first pod that has a small MTU, or with a bridge for local containers.
#[rstest]
#[podlab::test]
async fn item_02_other_kinds_of_interfaces_do_not_count(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[values(Always, CrossSubnet)] mode: Encapsulation,
) -> Result<()> {
    let cluster = boot(two_subnets(mode), backend).await?;
    let n1 = cluster.node("n1")?;
    for add in [
        "ip link add docker0 mtu 1200 type bridge",
        "ip link set docker0 up",
        "ip link add veth0 mtu 1200 type veth peer name cali0123456789a mtu 1200",
        "ip link set veth0 up",
        "ip link set cali0123456789a up",
    ] {
        n1.exec(add).await?.success()?;
    }
    tunnel_mtu_is(&n1, 1480).await?;
    // What the agent makes of the links, it has made by the time of this change.
    n1.set_underlay_mtu(1450).await?;
    tunnel_mtu_is(&n1, 1430).await
}

/// Proves that pods get the MTU that the agent on their node tells, not the one of the time when
/// the cluster was made: with a larger one their packets are cut or lost.
#[rstest]
#[podlab::test]
async fn pods_are_wired_with_the_mtu_that_the_agent_tells(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_subnets(Always), backend).await?;
    let n1 = cluster.node("n1")?;
    let wire = async |name: &str, address: &str| -> Result<(u32, u32)> {
        let pod = cluster
            .add_pod(name, |p| p.on("n1").address(address))
            .await?;
        let mtu = async |links: Vec<podlab::netlink::Link>, name: &str| {
            let mut links = links.into_iter();
            links.find(|link| link.name == name).map(|link| link.mtu)
        };
        let inside = mtu(pod.links().await?, "eth0").await;
        let outside = mtu(n1.links().await?, &pod.host_interface()).await;
        let both = inside.zip(outside);
        both.ok_or_else(|| anyhow::anyhow!("a pod without interface"))
    };
    assert_eq!(wire("a", "192.168.1.21").await?, (1480, 1480));
    // Of this the harness knows nothing.
    for add in [
        "ip link add eth7 mtu 1350 type veth peer name peer",
        "ip link set eth7 up",
    ] {
        n1.exec(add).await?.success()?;
    }
    said_is(&n1, "1330").await?;
    assert_eq!(wire("b", "192.168.1.22").await?, (1330, 1330));
    // Without a tunnel there is no header to make room for.
    cluster
        .set_pool(POOL, |pool| pool.encapsulation(Never))
        .await?;
    said_is(&n1, "1350").await?;
    assert_eq!(wire("c", "192.168.1.23").await?, (1350, 1350));
    // Somebody deletes the file: it is written again when the agent looks next.
    n1.exec(format!("rm {FOLDER}/mtu").as_str())
        .await?
        .success()?;
    n1.exec("ip link set eth7 mtu 1340").await?.success()?;
    said_is(&n1, "1340").await
}

/// Waits until the agent's file says this.
async fn said_is(node: &Node, mtu: &str) -> Result<()> {
    soon(format!("the agent says {mtu}"), || async {
        let said = node.exec(format!("cat {FOLDER}/mtu").as_str()).await?;
        anyhow::ensure!(said.stdout.trim() == mtu, "it says {:?}", said.stdout);
        Ok(())
    })
    .await
}

/// Proves that the fabric grows with its nodes: a bridge that stays narrow drops without a word.
#[rstest]
#[podlab::test]
async fn a_wider_underlay_carries_wider_packets(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_subnets(Always), backend).await?;
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
        "n3" | "n4" => "192.168.2.0/24",
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
