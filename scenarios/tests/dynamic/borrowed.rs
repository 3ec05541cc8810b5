//! Addresses that are used on another node than the one whose block they are of.

use anyhow::Result;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use rstest::rstest;

use crate::world::{all_pairs, boot, connected, hop, ping, route_is, soon, tunnel_has};

/// Proves that a pod is reached although its address is of another node's block: from the node
/// that lent it, whose blackhole would swallow it, and from third ones.
#[rstest]
#[podlab::test]
async fn item_09_a_pod_with_an_address_of_another_nodes_block(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const ADDRESS: &str = "192.168.1.9/32";
    let spec = connected(mode).pod("guest", |p| p.on("n3").address("192.168.1.9"));
    let cluster = boot(spec, backend).await?;
    let borrower = cluster.node("n3")?;
    for lender_and_third in ["n1", "n2"] {
        let node = cluster.node(lender_and_third)?;
        route_is(&node, ADDRESS, &hop(&node, &borrower, mode)).await?;
    }
    all_pairs(&cluster).await?;
    cluster.remove_pod("guest").await?;
    for lender_and_third in ["n1", "n2"] {
        route_is(&cluster.node(lender_and_third)?, ADDRESS, "none").await?;
    }
    all_pairs(&cluster).await
}

/// Proves that the tunnel's address may be of another node's block: what the node itself sends
/// to pods has it as source, and the answers must find the way back.
#[rstest]
#[podlab::test]
async fn item_09_a_borrowed_tunnel_address(
    #[values(Always, CrossSubnet)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const BORROWED: &str = "192.168.2.77";
    let cluster = boot(connected(mode), backend).await?;
    let (n1, p2, p3) = (cluster.node("n1")?, cluster.pod("p2")?, cluster.pod("p3")?);
    n1.set_tunnel_address(BORROWED).await?;
    tunnel_has(&n1, &["192.168.2.77/32"]).await?;
    for other in ["n2", "n3"] {
        let node = cluster.node(other)?;
        route_is(&node, "192.168.2.77/32", &hop(&node, &n1, mode)).await?;
    }
    // p2 is on the node that lent it, p3 on a third one. Inside the subnet `cross-subnet` does
    // without the tunnel, and so without its address.
    for (pod, tunnel) in [(&p2, mode == Always), (&p3, true)] {
        let from_tunnel = podlab::capture::Filter::source(BORROWED.parse()?);
        let arriving = pod.capture("eth0", &from_tunnel)?;
        let what = format!("n1 reaches {}", pod.name());
        let ttl = soon(what, || ping(&n1, pod)).await?;
        assert_eq!(ttl, 63);
        let packets = arriving.stop().await?.packets;
        assert_eq!(!packets.is_empty(), tunnel, "{}: {packets:?}", pod.name());
    }
    Ok(())
}
