//! Addresses that are used on another node than the one whose block they are of.

use anyhow::Result;
use podlab::spec::Encapsulation::Always;

use crate::world::{all_pairs, ping, route_is, soon, tunnel_has, two_subnets};

/// Proves that a pod is reached although its address is of another node's block: from the node
/// that lent it, whose blackhole would swallow it, and from third ones.
#[podlab::test]
async fn item_09_a_pod_with_an_address_of_another_nodes_block() -> Result<()> {
    const ADDRESS: &str = "192.168.1.9/32";
    let cluster = two_subnets(Always)
        .pod("guest", |p| p.on("n3").address("192.168.1.9"))
        .boot()
        .await?;
    for lender_and_third in ["n1", "n2"] {
        let node = cluster.node(lender_and_third)?;
        route_is(&node, ADDRESS, "via 10.13.0.13 dev tunl0").await?;
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
#[podlab::test]
async fn item_09_a_borrowed_tunnel_address() -> Result<()> {
    const BORROWED: &str = "192.168.2.77";
    let cluster = two_subnets(Always).boot().await?;
    let (n1, p2, p3) = (cluster.node("n1")?, cluster.pod("p2")?, cluster.pod("p3")?);
    n1.set_tunnel_address(BORROWED).await?;
    tunnel_has(&n1, &["192.168.2.77/32"]).await?;
    for other in ["n2", "n3"] {
        let node = cluster.node(other)?;
        route_is(&node, "192.168.2.77/32", "via 10.12.0.11 dev tunl0").await?;
    }
    let arriving = p2.capture("eth0", &podlab::capture::Filter::source(BORROWED.parse()?))?;
    // p2 is on the node that lent it, p3 on a third one.
    for pod in [&p2, &p3] {
        let what = format!("n1 reaches {} from its tunnel address", pod.name());
        let ttl = soon(what, || ping(&n1, pod)).await?;
        assert_eq!(ttl, 63);
    }
    assert!(
        !arriving.stop().await?.packets.is_empty(),
        "it was not the source"
    );
    Ok(())
}
