//! Devices that go down, wires without carrier.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::netlink::Link;
use podlab::{Cluster, Machine};
use podlab_scenarios::seed::{DEMO_W2, TEST_TOOLS, UNDERLAY, WORKER_1};
use rstest::rstest;

use crate::world::{all, boot, pings, reaches, same, same_soon, state};

const COUNT: u32 = 20;

async fn link(machine: &Machine, device: &str) -> Result<Link> {
    let links = machine.links().await?;
    let link = links.into_iter().find(|link| link.name == device);
    link.with_context(|| format!("no {device}"))
}

/// The seed's cluster after one ping, and no agent that could put anything right.
async fn without_agents(backend: &str) -> Result<Cluster> {
    let cluster = boot(backend).await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    assert_eq!(tools.ping(&far).await?.ttl, 62);
    for node in cluster.nodes() {
        node.stop_agent().await?;
    }
    Ok(cluster)
}

/// Proves that a device that was down comes back with every route and neighbour that went with it,
/// without the help of an agent.
#[rstest]
#[case::node(true)]
#[case::pod(false)]
#[podlab::test]
async fn a_device_comes_back_as_it_was(#[case] node: bool) -> Result<()> {
    let cluster = without_agents("ebpf").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let before = state(&cluster).await?;
    let wire = match node {
        true => cluster.node(WORKER_1)?.wire()?,
        false => tools.wire()?,
    };
    let fault = wire.down().await?;
    assert_eq!(pings(&far, tools.address(), COUNT).await?, [].into());
    ensure!(same(&before, &state(&cluster).await?).is_err());
    let error = wire.down().await.unwrap_err().to_string();
    ensure!(error.contains("is there already"), "{error}");
    fault.heal().await?;
    same_soon(&cluster, &before).await?;
    reaches(&far, tools.address()).await?;
    assert_eq!(pings(&far, tools.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that a wire without carrier carries nothing while its device stays up, and that it comes
/// back, too.
#[rstest]
#[case::node(true)]
#[case::pod(false)]
#[podlab::test]
async fn a_device_without_carrier_stays_up(#[case] node: bool) -> Result<()> {
    let cluster = without_agents("ebpf").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let before = state(&cluster).await?;
    let (machine, wire): (Machine, _) = match node {
        true => {
            let node = cluster.node(WORKER_1)?;
            ((*node).clone(), node.wire()?)
        }
        false => ((*tools).clone(), tools.wire()?),
    };
    let fault = wire.lose_carrier().await?;
    let device = link(&machine, wire.device()).await?;
    ensure!(device.up && !device.running, "{device:?}");
    assert_eq!(pings(&far, tools.address(), COUNT).await?, [].into());
    fault.heal().await?;
    same_soon(&cluster, &before).await?;
    reaches(&far, tools.address()).await?;
    assert_eq!(pings(&far, tools.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that a flapping link loses packets again and again, and none any more once it is healed.
#[podlab::test]
async fn a_flapping_link_loses_again_and_again() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let before = state(&cluster).await?;
    let wire = tools.wire()?;
    let pause = Duration::from_millis(150);
    let fault = wire.flap(pause, pause).await?;
    let got = pings(&far, tools.address(), 250).await?;
    let numbers: Vec<u32> = got.iter().copied().collect();
    let gaps = numbers.windows(2).filter(|pair| pair[1] - pair[0] > 5);
    let gaps = gaps.count();
    ensure!(gaps >= 2, "{gaps} outages between answers: {numbers:?}");
    fault.heal().await?;
    same_soon(&cluster, &before).await?;
    reaches(&far, tools.address()).await?;
    assert_eq!(pings(&far, tools.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that a fault that would do nothing is refused: a test that relies on it must not pass.
#[podlab::test]
async fn a_link_that_is_down_already_is_no_fault() -> Result<()> {
    let cluster = boot("userspace").await?;
    let node = cluster.node(WORKER_1)?;
    node.set_link_up(UNDERLAY, false).await?;
    let error = node.link_down(UNDERLAY).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "link down at k8s-worker-1/ens192 would change nothing: k8s-worker-1/ens192 is down already"
    );
    let error = node.link_down("ens7").await.unwrap_err().to_string();
    ensure!(error.contains("ens7"), "{error}");
    // Nothing of the refused ones stays.
    node.set_link_up(UNDERLAY, true).await?;
    node.link_down(UNDERLAY).await?.heal().await?;
    Ok(())
}
