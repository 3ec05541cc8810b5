//! All faults of a cluster together: they are told, they are healed, and they go with it.

use anyhow::{Result, ensure};
use podlab::event::Kind;
use podlab::fault::{Direction, Loss};
use podlab_scenarios::seed::{DEMO_W2, MASTER, TEST_TOOLS, WORKER_1, WORKER_2};

use crate::world::{all, boot, pings, reaches, same_soon, state};

const COUNT: u32 = 20;

/// Proves that faults on top of each other are undone in one go, also those that nobody kept, and
/// that the event log tells of each of them when it came and when it went.
#[podlab::test]
async fn all_faults_are_healed_at_once() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let before = state(&cluster).await?;
    cluster.heal_all().await?;
    cluster.partition([WORKER_1], [WORKER_2, MASTER]).await?;
    cluster.lose([WORKER_2], [MASTER], Loss::every(2)).await?;
    cluster.node(WORKER_1)?.wire()?.down().await?;
    cluster.node(WORKER_1)?.wire()?.lose_carrier().await?;
    tools.wire()?.lose(Direction::In, Loss::all()).await?;
    far.wire()?.down().await?;
    assert_eq!(cluster.active_faults().len(), 6);
    assert_eq!(pings(&tools, far.address(), COUNT).await?, [].into());

    cluster.heal_all().await?;
    ensure!(cluster.active_faults().is_empty());
    same_soon(&cluster, &before).await?;
    reaches(&tools, far.address()).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    let told = |healed: bool| -> Vec<String> {
        let events = cluster.events().all();
        let faults = events.iter().filter_map(|event| match &event.kind {
            Kind::FaultApplied { fault, target } if !healed => Some(format!("{fault}, {target}")),
            Kind::FaultHealed { fault, target } if healed => Some(format!("{fault}, {target}")),
            _ => None,
        });
        faults.collect()
    };
    let mut healed = told(true);
    healed.reverse();
    assert_eq!(told(false), healed);
    assert_eq!(
        healed,
        [
            "partition, k8s-worker-1 ↔ k8s-master, k8s-worker-2",
            "loss of 1 in 2 packets, k8s-worker-2 → k8s-master",
            "link down, k8s-worker-1/ens192",
            "carrier loss, k8s-worker-1/ens192",
            "loss of every packet, test-tools/eth0 in",
            "link down, c2c-network-demo-w2/eth0",
        ]
    );
    Ok(())
}

/// Proves that a fault outlives neither its cluster nor a pod that was removed, and can be healed
/// all the same: clean-up code needs no order.
#[podlab::test]
async fn what_is_gone_needs_no_healing() -> Result<()> {
    let cluster = boot("userspace").await?;
    let pod = cluster.pod(DEMO_W2)?;
    let faults = [
        pod.wire()?.lose(Direction::In, Loss::all()).await?,
        pod.wire()?.down().await?,
    ];
    cluster.remove_pod(DEMO_W2).await?;
    for fault in &faults {
        fault.heal().await?;
    }
    ensure!(pod.wire().is_err());
    let left = cluster.partition([WORKER_1], [WORKER_2]).await?;
    drop((pod, cluster));
    // In a test a cluster lives until the next await, in case that the test has failed.
    tokio::task::yield_now().await;
    ensure!(!left.is_active());
    left.heal().await?;
    Ok(())
}

/// Proves that faults can be healed in any order: both ends of a wire are down, and the first one
/// comes back first.
#[podlab::test]
async fn the_order_of_healing_does_not_matter() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let before = state(&cluster).await?;
    let wire = tools.wire()?;
    let (one, two) = (wire.down().await?, wire.lose_carrier().await?);
    one.heal().await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, [].into());
    two.heal().await?;
    same_soon(&cluster, &before).await?;
    reaches(&tools, far.address()).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that a side that cannot be is an error with its name.
#[podlab::test]
async fn a_fault_between_nobody_is_refused() -> Result<()> {
    let cluster = boot("userspace").await?;
    let nobody: [&str; 0] = [];
    for (some, others, why) in [
        (vec![WORKER_1], vec!["k8s-worker-9"], "k8s-worker-9"),
        (vec![WORKER_1], nobody.to_vec(), "without nodes"),
        (vec![WORKER_1, MASTER], vec![MASTER], "on both sides"),
    ] {
        let error = cluster.partition(some, others).await.unwrap_err();
        ensure!(error.to_string().contains(why), "{error}");
    }
    let error = cluster.lose([WORKER_1], [WORKER_2], Loss::every(0)).await;
    ensure!(error.unwrap_err().to_string().contains("no 0th packet"));
    ensure!(cluster.active_faults().is_empty());
    Ok(())
}
