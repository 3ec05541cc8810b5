//! Blocks of pod addresses that are claimed and released.

use anyhow::Result;
use podlab::netlink::{RouteKind, RouteProtocol};
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use rstest::rstest;

use crate::world::{all_pairs, boot, connected, hop, ping, route, route_is};

/// Proves that packets to addresses of an own block that nobody has end here instead of going
/// round in circles by the default route, for as long as the block is the node's.
#[rstest]
#[podlab::test]
async fn item_05_the_blackhole_follows_the_block(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const BLOCK: &str = "192.168.7.0/24";
    let cluster = boot(connected(mode), backend).await?;
    let (n1, n3) = (cluster.node("n1")?, cluster.node("n3")?);
    n1.add_block(BLOCK).await?;
    route_is(&n1, BLOCK, "blackhole").await?;
    route_is(&n3, BLOCK, &hop(&n3, &n1, mode)).await?;
    let blackhole = route(&n1, BLOCK).await?.expect("just seen");
    assert_eq!(blackhole.kind, RouteKind::Blackhole);
    assert_eq!(blackhole.protocol, RouteProtocol::CALICO);

    cluster
        .add_pod("p7", |p| p.on("n1").address("192.168.7.7"))
        .await?;
    all_pairs(&cluster).await?;
    let used = n1.remove_block(BLOCK).await.unwrap_err().to_string();
    assert!(
        used.contains("pod \"p7\": its address 192.168.7.7 lies outside every block"),
        "{used}"
    );
    cluster.remove_pod("p7").await?;
    n1.remove_block(BLOCK).await?;
    route_is(&n1, BLOCK, "none").await?;
    route_is(&n3, BLOCK, "none").await?;
    all_pairs(&cluster).await
}

/// Proves that a released block can go to another node.
#[rstest]
#[podlab::test]
async fn a_block_changes_hands(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const BLOCK: &str = "192.168.7.0/24";
    let cluster = boot(connected(mode), backend).await?;
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| cluster.node(name));
    let (n1, n2, n3) = (n1?, n2?, n3?);
    n1.add_block(BLOCK).await?;
    let taken = n2.add_block(BLOCK).await.unwrap_err().to_string();
    assert!(
        taken.contains("overlaps block 192.168.7.0/24 of node \"n1\""),
        "{taken}"
    );
    n1.remove_block(BLOCK).await?;
    n2.add_block(BLOCK).await?;
    route_is(&n1, BLOCK, &hop(&n1, &n2, mode)).await?;
    route_is(&n2, BLOCK, "blackhole").await?;
    route_is(&n3, BLOCK, &hop(&n3, &n2, mode)).await
}

/// Proves that a block of one address has no blackhole: it would stand in the way of its pod.
#[rstest]
#[podlab::test]
async fn item_09_a_block_of_one_address_has_no_blackhole(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const BLOCK: &str = "192.168.8.8/32";
    let cluster = boot(connected(mode), backend).await?;
    let (n1, n3, p3) = (cluster.node("n1")?, cluster.node("n3")?, cluster.pod("p3")?);
    n1.add_block(BLOCK).await?;
    // When this later block has its blackhole, the agent has seen the other.
    n1.add_block("192.168.9.0/24").await?;
    route_is(&n1, "192.168.9.0/24", "blackhole").await?;
    assert_eq!(route(&n1, BLOCK).await?, None);
    route_is(&n3, BLOCK, &hop(&n3, &n1, mode)).await?;

    let pod = cluster
        .add_pod("p8", |p| p.on("n1").address("192.168.8.8"))
        .await?;
    route_is(&n1, BLOCK, &format!("dev {}", pod.host_interface())).await?;
    all_pairs(&cluster).await?;
    cluster.remove_pod("p8").await?;
    route_is(&n1, BLOCK, "none").await?;
    assert!(ping(&p3, &pod).await.is_err());
    Ok(())
}
