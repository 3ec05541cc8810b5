//! What the agent's nftables table costs, above all the kernel's connection tracking, which its NAT
//! chain brings along.

use anyhow::{Context, Result, ensure};
use podlab::process::Program;
use podlab::{Cluster, Node};
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, WORKER_1, WORKER_2};

use super::results::{Results, median};
use super::stream::{boot, iperf};

pub(crate) const NAME: &str = "conntrack";
/// Rounds; with and without take turns, so that a busy moment hits both.
const ROUNDS: usize = 5;
/// Where a node keeps its table meanwhile; every node has a /run of its own.
const SAVED: &str = "/run/table.nft";

/// Measures for the backends whose kernel carries packets without the agent: that of the others
/// cannot be frozen, and one that runs puts the table back.
pub(crate) async fn run(results: &mut Results) -> Result<()> {
    for backend in ["kernel", "ebpf"] {
        if let Some(cluster) = boot(seed::spec(), backend).await? {
            measure(&cluster, backend, results).await.context(backend)?;
        }
    }
    Ok(())
}

async fn measure(cluster: &Cluster, backend: &str, results: &mut Results) -> Result<()> {
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let nodes = [cluster.node(WORKER_1)?, cluster.node(WORKER_2)?];
    for node in &nodes {
        let agent = node.agent_id().context("no agent runs")?;
        sh(node, &format!("kill -STOP {agent}")).await?;
        sh(node, &format!("nft list table ip podlab > {SAVED}")).await?;
    }
    let (mut streams, mut packets) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for _ in 0..ROUNDS {
        for (with, samples) in [true, false].into_iter().zip(0..) {
            for node in &nodes {
                // Written over one that is there, its rules would be there twice.
                sh(node, "nft 'add table ip podlab; delete table ip podlab'").await?;
                if with {
                    sh(node, &format!("nft -f {SAVED}")).await?;
                }
            }
            streams[samples].push(iperf(&from, &to, &[]).await?.0);
            packets[samples].push(iperf(&from, &to, &["-u", "-b", "0", "-l", "64"]).await?.1);
        }
    }
    for node in &nodes {
        let agent = node.agent_id().context("no agent runs")?;
        sh(node, &format!("kill -CONT {agent}")).await?;
    }
    for (what, unit, [mut with, mut without]) in [
        ("one TCP stream", "Gbit/s", streams),
        ("packets of 64 bytes", "kpps", packets),
    ] {
        ensure!(!with.is_empty(), "nothing was measured");
        let name = format!("{what}, {backend}, with the agent's table");
        let (with, without) = (median(&mut with), median(&mut without));
        results.add(name, unit, with, without, "without it");
    }
    Ok(())
}

async fn sh(node: &Node, script: &str) -> Result<String> {
    let shell = Program::new("sh").args(["-c", script]);
    Ok(node.exec(shell).await?.success()?.stdout)
}
