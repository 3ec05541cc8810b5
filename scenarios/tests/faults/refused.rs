//! Faults that cannot be put in for want of a program or of the kernel's help.

use anyhow::{Result, ensure};
use podlab::Machine;
use podlab::fault::{Direction, Loss};
use podlab_scenarios::seed::{DEMO_W2, TEST_TOOLS, WORKER_1, WORKER_2};

use crate::world::{all, boot, pings, same, state};

const COUNT: u32 = 20;

/// Lets `nft` fail in one machine, as where the kernel has no nftables.
async fn without_nft(machine: &Machine) -> Result<String> {
    let nft = machine.exec("which nft").await?.success()?.stdout;
    let nft = nft.trim().to_owned();
    let hide = format!("mount --bind /bin/false {nft}");
    machine.exec(hide.as_str()).await?.success()?;
    Ok(nft)
}

/// Proves that a partition, a loss or a lossy wire that nftables refuses is an error that names
/// nftables, and that nothing of it stays: no packet is lost, no fault is active, and the same
/// fault can be put in once nftables is there.
#[podlab::test]
async fn without_nftables_faults_that_need_it_say_so() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let before = state(&cluster).await?;
    let fabric = cluster.fabric().clone();
    let mut hidden = vec![(fabric.clone(), without_nft(&fabric).await?)];
    for machine in [(*tools).clone(), (*cluster.node(WORKER_1)?).clone()] {
        let nft = without_nft(&machine).await?;
        hidden.push((machine, nft));
    }
    let node = cluster.node(WORKER_1)?;
    for (refused, needs) in [
        (cluster.partition([WORKER_1], [WORKER_2]).await, "bridge"),
        (
            cluster.partition_one_way([WORKER_1], [WORKER_2]).await,
            "bridge",
        ),
        (
            cluster.lose([WORKER_1], [WORKER_2], Loss::every(2)).await,
            "bridge",
        ),
        (node.isolate().await, "bridge"),
        (
            tools.wire()?.lose(Direction::In, Loss::all()).await,
            "netdev",
        ),
        (
            tools.wire()?.lose(Direction::Out, Loss::all()).await,
            "netdev",
        ),
    ] {
        let error = refused.err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        let hint = format!("hint: it needs nftables with the family {needs} on this kernel");
        ensure!(error.ends_with(&hint), "{error:?}");
    }
    ensure!(cluster.active_faults().is_empty());
    for (machine, nft) in hidden {
        machine
            .exec(format!("umount {nft}").as_str())
            .await?
            .success()?;
    }
    same(&before, &state(&cluster).await?)?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    let fault = cluster.partition([WORKER_1], [WORKER_2]).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, [].into());
    fault.heal().await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    Ok(())
}
