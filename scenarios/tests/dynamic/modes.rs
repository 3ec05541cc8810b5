//! When packets between nodes are encapsulated: `always`, `cross-subnet`, `never`.

use anyhow::Result;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use rstest::rstest;

use crate::stream::Stream;
use crate::world::{
    POOL, all_pairs, boot, depths_on_the_wire, ping, route, route_is, tunnel_has, two_subnets,
};

/// Proves what each mode does on a fabric of two subnets, by what is on the wire: if it fails,
/// packets are wrapped where a cloud drops protocol 4, or are not where a router drops pods'.
#[rstest]
#[case::always(Always, 1, Some(1))]
#[case::cross_subnet(CrossSubnet, 0, Some(1))]
#[case::never(Never, 0, None)]
#[podlab::test]
async fn a_mode_decides_what_is_on_the_wire(
    #[case] mode: Encapsulation,
    #[case] inside: usize,
    #[case] across: Option<usize>,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_subnets(mode), backend).await?;
    let (p1, p2, p3) = (cluster.pod("p1")?, cluster.pod("p2")?, cluster.pod("p3")?);
    // The request and the reply, each seen by four devices.
    let depths = depths_on_the_wire(&cluster, &p1, &p2).await?;
    assert_eq!(depths, [inside; 8], "p1 to p2");
    match across {
        Some(depth) => {
            let depths = depths_on_the_wire(&cluster, &p1, &p3).await?;
            assert_eq!(depths, [depth; 8], "p1 to p3");
            all_pairs(&cluster).await?;
        }
        // The router between the subnets knows no pods; that is what the other modes are for.
        None => assert!(ping(&p1, &p3).await.is_err(), "somebody knew the way"),
    }
    Ok(())
}

/// Proves the routes of `cross-subnet`: out of the underlay interface inside the subnet, through
/// the tunnel across.
#[rstest]
#[podlab::test]
async fn cross_subnet_routes_by_the_subnet_of_the_other_node(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_subnets(CrossSubnet), backend).await?;
    let (n1, n3) = (cluster.node("n1")?, cluster.node("n3")?);
    route_is(&n1, "192.168.2.0/24", "via 10.12.0.12 dev eth0").await?;
    route_is(&n1, "192.168.3.0/24", "via 10.13.0.13 dev tunl0").await?;
    route_is(&n3, "192.168.1.0/24", "via 10.12.0.11 dev tunl0").await?;
    let across = route(&n1, "192.168.3.0/24").await?.expect("just seen");
    assert!(across.onlink);
    assert_eq!(across.mtu, Some(1480));
    Ok(())
}

/// Proves that a pool can change under load between modes that both use the tunnel: nothing is
/// lost, neither where the packets stay in it nor where they leave it and come back.
#[rstest]
#[case::in_and_out_of_the_tunnel("p2")]
#[case::always_in_the_tunnel("p3")]
#[podlab::test]
async fn always_and_cross_subnet_are_changed_live_without_a_lost_packet(
    #[case] to: &str,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    change_live(to, backend, &[CrossSubnet, Always, CrossSubnet, Always]).await
}

/// Proves the same of `never`, for pods whose nodes are in one subnet.
#[rstest]
#[podlab::test]
async fn never_is_changed_live_without_a_lost_packet(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    change_live("p2", backend, &[Never, CrossSubnet, Always, Never, Always]).await
}

async fn change_live(to: &str, backend: &str, modes: &[Encapsulation]) -> Result<()> {
    let cluster = boot(two_subnets(Always), backend).await?;
    let (n1, n2) = (cluster.node("n1")?, cluster.node("n2")?);
    let (p1, other) = (cluster.pod("p1")?, cluster.pod(to)?);
    let streams = [
        Stream::start(&p1, &other).await?,
        Stream::start(&other, &p1).await?,
    ];
    for &mode in modes {
        cluster
            .set_pool(POOL, |pool| pool.encapsulation(mode))
            .await?;
        let device = if mode == Always { "tunl0" } else { "eth0" };
        // Both ends have followed when this is so on both.
        let by = |gateway: &str| format!("via {gateway} dev {device}");
        route_is(&n1, "192.168.2.0/24", &by("10.12.0.12")).await?;
        route_is(&n2, "192.168.1.0/24", &by("10.12.0.11")).await?;
    }
    for stream in streams {
        stream.count().await?.none()?;
    }
    all_pairs(&cluster).await
}

/// Proves that `never` takes the address from `tunl0` and keeps the device, and that the way
/// back is complete: Calico's users switch modes back and forth.
#[rstest]
#[podlab::test]
async fn item_03_never_strips_the_tunnels_address_and_keeps_the_device(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_subnets(Always), backend).await?;
    let n1 = cluster.node("n1")?;
    tunnel_has(&n1, &["192.168.1.0/32"]).await?;
    let before = n1.links().await?;
    cluster
        .set_pool(POOL, |pool| pool.encapsulation(Never))
        .await?;
    tunnel_has(&n1, &[]).await?;
    route_is(&n1, "192.168.2.0/24", "via 10.12.0.12 dev eth0").await?;
    route_is(&n1, "192.168.3.0/24", "none").await?;
    cluster
        .set_pool(POOL, |pool| pool.encapsulation(Always))
        .await?;
    tunnel_has(&n1, &["192.168.1.0/32"]).await?;
    all_pairs(&cluster).await?;
    assert_eq!(n1.links().await?, before, "the device was made anew");
    Ok(())
}
