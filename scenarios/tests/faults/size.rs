//! Wires on which long packets do not fit.

use anyhow::{Result, ensure};
use podlab::fault::{Direction, Flow, Loss};
use podlab::probe::icmp::PingOptions;
use podlab_scenarios::seed::{DEMO_W2, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::world::{all, boot, in_one_piece, pings_with, same, same_soon, state};

const COUNT: u32 = 20;

/// Proves that a narrow wire lets through what fits, to the byte, and refuses what does not; and
/// that it is as wide as before once it is healed.
#[podlab::test]
async fn a_narrow_wire_refuses_what_does_not_fit() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let before = state(&cluster).await?;
    let sized =
        async |size: usize| pings_with(&far, tools.address(), COUNT, in_one_piece(size)).await;
    assert_eq!(sized(1001).await?, all(COUNT));
    let fault = tools.wire()?.set_mtu(1000).await?;
    assert_eq!(sized(1000).await?, all(COUNT));
    assert_eq!(sized(1001).await?, [].into());
    let error = tools.wire()?.set_mtu(1000).await.unwrap_err().to_string();
    ensure!(error.contains("is there already"), "{error}");
    fault.heal().await?;
    // What the far pod has learnt of the path it keeps for ten minutes, as after a real change.
    far.exec("ip route flush cache").await?.success()?;
    cluster
        .node(WORKER_2)?
        .exec("ip route flush cache")
        .await?
        .success()?;
    assert_eq!(sized(1001).await?, all(COUNT));
    same(&before, &state(&cluster).await?)?;
    let error = tools.wire()?.set_mtu(1440).await.unwrap_err().to_string();
    ensure!(error.contains("would change nothing"), "{error}");
    let error = tools.wire()?.set_mtu(20).await.unwrap_err().to_string();
    ensure!(error.contains("MTU"), "{error}");
    same(&before, &state(&cluster).await?)
}

/// Proves that wires which are narrow at the same time, and one longer than the other, leave the
/// bridge between them as wide as it was.
#[podlab::test]
async fn narrow_wires_on_one_bridge_do_not_inherit_from_each_other() -> Result<()> {
    let cluster = boot("userspace").await?;
    let before = state(&cluster).await?;
    let one = cluster.node(WORKER_1)?.wire()?.set_mtu(1438).await?;
    let other = cluster.node(WORKER_2)?.wire()?.set_mtu(1312).await?;
    one.heal().await?;
    other.heal().await?;
    same_soon(&cluster, &before).await
}

/// Proves that the wire of a node can become narrow while everything runs: the agent follows with
/// the tunnel, back and forth, and the bridge is as before.
#[rstest]
#[podlab::test]
async fn the_tunnel_follows_a_narrow_underlay(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let mut spec = podlab_scenarios::seed::spec();
    for pool in &mut spec.pools {
        pool.tunnel_mtu = None;
    }
    let agent = podlab::agent::PodlabAgent::with_encapsulation(backend);
    let cluster = podlab_scenarios::backend::boot(spec, agent, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let before = state(&cluster).await?;
    let fault = node.wire()?.set_mtu(1300).await?;
    podlab::eventually::eventually("the tunnel is narrow", crate::world::SOON, || async {
        let links = node.links().await.map_err(|error| error.to_string())?;
        let mut links = links.into_iter();
        let tunnel = links.find(|link| link.name == "tunl0");
        match tunnel {
            Some(tunnel) if tunnel.mtu == 1280 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let sized =
        async |size: usize| pings_with(&tools, far.address(), COUNT, in_one_piece(size)).await;
    assert_eq!(sized(1280).await?, all(COUNT));
    assert_eq!(sized(1281).await?, [].into());
    fault.heal().await?;
    same_soon(&cluster, &before).await?;
    tools.exec("ip route flush cache").await?.success()?;
    assert_eq!(sized(1480).await?, all(COUNT));
    Ok(())
}

/// Proves that a path can swallow long packets without a word, as one that filters ICMP does.
#[podlab::test]
async fn a_black_hole_swallows_long_packets_only() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let sized = async |size: usize| {
        let options = PingOptions {
            dont_fragment: false,
            ..in_one_piece(size)
        };
        pings_with(&tools, far.address(), COUNT, options).await
    };
    let long = Loss::all().only(Flow::icmp().tunnelled().longer_than(1000));
    let fault = cluster.lose([WORKER_1], [WORKER_2], long).await?;
    assert_eq!(sized(1000).await?, all(COUNT));
    assert_eq!(sized(1001).await?, [].into());
    assert_eq!(fault.dropped().await?, Some(u64::from(COUNT)));
    fault.heal().await?;
    let long = Loss::all().only(Flow::any().longer_than(1000));
    let fault = tools.wire()?.lose(Direction::In, long).await?;
    assert_eq!(sized(1000).await?, all(COUNT));
    assert_eq!(sized(1001).await?, [].into());
    assert_eq!(fault.dropped().await?, Some(u64::from(COUNT)));
    Ok(())
}
