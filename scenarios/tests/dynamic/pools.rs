//! Two pools, each in a mode of its own.

use anyhow::Result;
use podlab::Cluster;
use podlab::spec::ClusterSpec;
use podlab::spec::Encapsulation::{Always, CrossSubnet, Never};
use rstest::rstest;

use crate::stream::Stream;
use crate::world::{POOL, boot, depths_on_the_wire, route_is};

/// As the builder calls the second one.
const OTHER_POOL: &str = "pool-2";

/// Two nodes of one subnet with a block of each pool, and a pod in each: `a1` and `a2` are of the
/// pool that encapsulates, `b1` and `b2` of the one that does not.
fn two_pools() -> ClusterSpec {
    let node = |number: u8| {
        move |node: podlab::spec::NodeBuilder| {
            node.address(format!("10.12.0.1{number}/24"))
                .block(format!("192.168.{number}.0/24"))
                .block(format!("172.20.{number}.0/24"))
        }
    };
    Cluster::builder()
        .pool("192.168.0.0/16", |pool| pool.encapsulation(Always))
        .pool("172.20.0.0/16", |pool| pool.encapsulation(Never))
        .node("n1", node(1))
        .node("n2", node(2))
        .pod("a1", |p| p.on("n1").address("192.168.1.5"))
        .pod("a2", |p| p.on("n2").address("192.168.2.5"))
        .pod("b1", |p| p.on("n1").address("172.20.1.5"))
        .pod("b2", |p| p.on("n2").address("172.20.2.5"))
}

/// Proves that a mode is a pool's own: packets of one are encapsulated and of the other are not, by
/// the same nodes at the same time, and a change of one pool's mode costs neither pool a packet.
#[rstest]
#[podlab::test]
async fn a_mode_is_its_pools_alone_and_a_change_of_one_spares_the_other(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(two_pools(), backend).await?;
    let n1 = cluster.node("n1")?;
    let n2 = cluster.node("n2")?;
    let [a1, a2, b1, b2] = ["a1", "a2", "b1", "b2"].map(|name| cluster.pod(name));
    let (a1, a2, b1, b2) = (a1?, a2?, b1?, b2?);
    assert_eq!(depths_on_the_wire(&cluster, &a1, &a2).await?, [1; 8]);
    assert_eq!(depths_on_the_wire(&cluster, &b1, &b2).await?, [0; 8]);

    let streams = [
        Stream::start(&b1, &b2).await?,
        Stream::start(&b2, &b1).await?,
        Stream::start(&a1, &a2).await?,
    ];
    for mode in [CrossSubnet, Always, Never, Always] {
        cluster
            .set_pool(POOL, |pool| pool.encapsulation(mode))
            .await?;
        let device = if mode == Always { "tunl0" } else { "eth0" };
        route_is(
            &n1,
            "192.168.2.0/24",
            &format!("via 10.12.0.12 dev {device}"),
        )
        .await?;
        route_is(
            &n2,
            "192.168.1.0/24",
            &format!("via 10.12.0.11 dev {device}"),
        )
        .await?;
        route_is(&n1, "172.20.2.0/24", "via 10.12.0.12 dev eth0").await?;
        let depth = usize::from(mode == Always);
        assert_eq!(depths_on_the_wire(&cluster, &a1, &a2).await?, [depth; 8]);
        assert_eq!(depths_on_the_wire(&cluster, &b1, &b2).await?, [0; 8]);
    }
    // And the other one, while the first is in the tunnel.
    for mode in [Always, Never] {
        cluster
            .set_pool(OTHER_POOL, |pool| pool.encapsulation(mode))
            .await?;
        let device = if mode == Always { "tunl0" } else { "eth0" };
        route_is(
            &n1,
            "172.20.2.0/24",
            &format!("via 10.12.0.12 dev {device}"),
        )
        .await?;
        route_is(
            &n2,
            "172.20.1.0/24",
            &format!("via 10.12.0.11 dev {device}"),
        )
        .await?;
        route_is(&n1, "192.168.2.0/24", "via 10.12.0.12 dev tunl0").await?;
    }
    for stream in streams {
        stream.count().await?.none()?;
    }
    Ok(())
}
