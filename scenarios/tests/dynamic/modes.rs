//! When packets between nodes are encapsulated: `always`, `cross-subnet`, `never`.

use anyhow::Result;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use rstest::rstest;

use crate::stream::Stream;
use crate::world::{
    POOL, all_pairs, depths_on_the_wire, ping, route, route_is, soon, tunnel_has, two_subnets,
};

/// Proves what each mode does on a fabric of two subnets, by what is on the wire: if it fails,
/// packets are wrapped where a cloud drops protocol 4, or are not where a router drops pods'.
#[rstest]
#[case::always(Always, 1, Some(1))]
#[case::cross_subnet(CrossSubnet, 0, Some(1))]
#[case::never(Never, 0, None)]
#[tokio::test]
async fn a_mode_decides_what_is_on_the_wire(
    #[case] mode: Encapsulation,
    #[case] inside: usize,
    #[case] across: Option<usize>,
) -> Result<()> {
    let cluster = two_subnets(mode).boot().await?;
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
#[tokio::test]
async fn cross_subnet_routes_by_the_subnet_of_the_other_node() -> Result<()> {
    let cluster = two_subnets(CrossSubnet).boot().await?;
    let (n1, n3) = (cluster.node("n1")?, cluster.node("n3")?);
    route_is(&n1, "192.168.2.0/24", "via 10.12.0.12 dev eth0").await?;
    route_is(&n1, "192.168.3.0/24", "via 10.13.0.13 dev tunl0").await?;
    route_is(&n3, "192.168.1.0/24", "via 10.12.0.11 dev tunl0").await?;
    let across = route(&n1, "192.168.3.0/24").await?.expect("just seen");
    assert!(across.onlink);
    assert_eq!(across.mtu, Some(1480));
    Ok(())
}

/// Proves that the mode of a pool can be changed under load: pods whose path is there in the old
/// and the new mode lose nothing.
#[tokio::test]
async fn a_mode_is_changed_live_without_a_lost_packet() -> Result<()> {
    let cluster = two_subnets(Always).boot().await?;
    let (p1, p2, p3) = (cluster.pod("p1")?, cluster.pod("p2")?, cluster.pod("p3")?);
    let streams = [
        Stream::start(&p1, &p2).await?,
        Stream::start(&p2, &p1).await?,
    ];
    for (mode, inside) in [(Never, 0), (CrossSubnet, 0), (Always, 1)] {
        // Across subnets there is no way in `never`, so the stream is started when there is one.
        cluster
            .set_pool(POOL, |pool| pool.encapsulation(mode))
            .await?;
        soon(format!("{mode:?} is on the wire"), || async {
            let depths = depths_on_the_wire(&cluster, &p1, &p2).await?;
            anyhow::ensure!(depths == [inside; 8], "{depths:?}");
            Ok(())
        })
        .await?;
    }
    all_pairs(&cluster).await?;
    let across = Stream::start(&p1, &p3).await?;
    for mode in [CrossSubnet, Always] {
        cluster
            .set_pool(POOL, |pool| pool.encapsulation(mode))
            .await?;
        let device = if mode == Always { "tunl0" } else { "eth0" };
        let wanted = format!("via 10.12.0.12 dev {device}");
        route_is(&cluster.node("n1")?, "192.168.2.0/24", &wanted).await?;
    }
    for stream in streams.into_iter().chain([across]) {
        stream.count().await?.none()?;
    }
    Ok(())
}

/// Proves that `never` takes the address from `tunl0` and keeps the device, and that the way
/// back is complete: Calico's users switch modes back and forth.
#[tokio::test]
async fn item_03_never_strips_the_tunnels_address_and_keeps_the_device() -> Result<()> {
    let cluster = two_subnets(Always).boot().await?;
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
