//! A vandal on a node: what it did is told, agents repair their own, and healing mends the rest.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use podlab::event::Kind;
use podlab::process::Program;
use podlab::{Cluster, Node};
use podlab_scenarios::seed::{DEMO_W2, TEST_TOOLS, WORKER_1};
use rstest::rstest;

use crate::world::{SOON, all, boot, pings, reaches, same, state};

const COUNT: u32 = 20;
const ACTS: u32 = 8;

/// Kernel parameters of a node, beside what `world::state` has.
async fn sysctls(node: &Node) -> Result<Vec<String>> {
    let names = "forwarding,proxy_arp,rp_filter,arp_ignore,accept_local";
    let script =
        format!("grep -H . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/{{{names}}}");
    let output = node
        .exec(Program::new("bash").args(["-c", &script]))
        .await?;
    let lines = output.success()?.stdout;
    Ok(lines.lines().map(str::to_owned).collect())
}

/// The tunnel's device may be another one afterwards: it has another number and hardware address,
/// and so have routes through it none of their own.
fn comparable(lines: Vec<String>) -> Vec<String> {
    let mut lines: Vec<String> = lines
        .into_iter()
        .filter(|line| !(line.contains("tunl0") && line.contains("index: ")))
        .collect();
    lines.sort();
    lines
}

async fn all_of(cluster: &Cluster) -> Result<Vec<String>> {
    let mut lines = comparable(state(cluster).await?);
    lines.extend(sysctls(&cluster.node(WORKER_1)?).await?);
    Ok(lines)
}

/// Waits until all of it is as before.
async fn is_mended(cluster: &Cluster, before: &[String], soon: Duration) -> Result<()> {
    podlab::eventually::eventually("all is as before", soon, || async {
        let after = all_of(cluster).await.map_err(|error| error.to_string())?;
        same(before, &after).map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

/// Proves that whatever a vandal breaks is mended to the last bit by healing alone, with no agent
/// to help; that it really broke something; and that the same seed breaks the same.
#[rstest]
#[podlab::test]
async fn everything_is_mended_without_an_agent(
    #[values(1, 2, 3, 4, 5, 6)] seed: u64,
) -> Result<()> {
    let mut reports = Vec::new();
    for _ in 0..2 {
        let cluster = boot("ebpf").await?;
        let node = cluster.node(WORKER_1)?;
        cluster
            .pod(TEST_TOOLS)?
            .ping(&cluster.pod(DEMO_W2)?)
            .await?;
        for node in cluster.nodes() {
            node.stop_agent().await?;
        }
        let before = all_of(&cluster).await?;
        let vandalism = node.vandalize(seed, ACTS).await?;
        assert_eq!(vandalism.acts.len(), ACTS as usize);
        ensure!(same(&before, &all_of(&cluster).await?).is_err());
        vandalism.fault.heal().await?;
        // That a device has its carrier again the kernel says late.
        let mended = is_mended(&cluster, &before, SOON).await;
        ensure!(mended.is_ok(), "{vandalism}\n{mended:?}");
        reports.push(vandalism.to_string());
    }
    println!("{}", reports[0]);
    assert_eq!(reports[0], reports[1]);
    Ok(())
}

/// Proves that a vandal costs packets, and that an agent that runs and the healing together bring
/// back all of them and everything else.
#[rstest]
#[podlab::test]
async fn agents_and_healing_mend_together(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[values(11, 12, 13, 14)] seed: u64,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_1)?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    let before = all_of(&cluster).await?;
    let vandalism = node.vandalize(seed, 2 * ACTS).await?;
    println!("{vandalism}");
    let told = cluster.events().all();
    let told = told.iter().filter(|event| match &event.kind {
        Kind::Note { text } => text.starts_with("vandal: "),
        _ => false,
    });
    assert_eq!(told.count(), vandalism.acts.len());
    if let Err(error) = cluster.heal_all().await {
        bail!("{error}\n{}", node.agent_log()?);
    }
    is_mended(&cluster, &before, 3 * SOON).await?;
    reaches(&tools, far.address()).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves the effect by count: a node whose every route may be hit loses all packets until it is
/// healed, when nobody repairs it.
#[podlab::test]
async fn what_a_vandal_broke_is_broken() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let node = cluster.node(WORKER_1)?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    tools.ping(&far).await?;
    for node in cluster.nodes() {
        node.stop_agent().await?;
    }
    // So many acts that every device is down at least once.
    let vandalism = node.vandalize(7, 60).await?;
    ensure!(vandalism.acts.len() > 30, "{vandalism}");
    assert_eq!(pings(&tools, far.address(), COUNT).await?, [].into());
    vandalism.fault.heal().await?;
    reaches(&tools, far.address()).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    Ok(())
}
