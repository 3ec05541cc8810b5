//! How much memory an agent holds, for every backend: with a thousand nodes, and when large packets
//! have gone through.

use anyhow::{Context, Result};
use podlab::eventually::eventually;
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Node};
use std::time::Duration;

use super::results::Results;
use super::routes::{self, NODES};
use super::stream::{BACKENDS, boot, iperf};

pub(crate) const NAME: &str = "memory";
/// What the issue asks for, in MB resident.
const GOAL_MB: f64 = 10.0;
/// Until when an agent that has nothing to carry any more has given back what it needed.
const SOON: Duration = Duration::from_secs(5);

/// Two nodes with a pod each, in a pool with room for a thousand more.
fn spec() -> ClusterSpec {
    Cluster::builder()
        .pool("10.128.0.0/9", |pool| pool.block_size(26))
        .node("n1", |n| n.address("10.12.0.2/16").block("10.128.0.0/26"))
        .node("n2", |n| n.address("10.12.0.3/16").block("10.128.0.64/26"))
        .pod("p1", |p| p.on("n1").address("10.128.0.2"))
        .pod("p2", |p| p.on("n2").address("10.128.0.66"))
}

pub(crate) async fn run(results: &mut Results) -> Result<()> {
    for backend in BACKENDS {
        let Some(cluster) = boot(spec(), backend).await? else {
            continue;
        };
        measure(&cluster, backend, results).await.context(backend)?;
    }
    Ok(())
}

async fn measure(cluster: &Cluster, backend: &str, results: &mut Results) -> Result<()> {
    let nodes = [cluster.node("n1")?, cluster.node("n2")?];
    for node in &nodes {
        routes::fill(cluster, node).await?;
    }
    let name = format!("agent's memory with {NODES} nodes, {backend}");
    results.add_with_goal(name, "MB", resident_mb(&nodes[0])?, GOAL_MB);

    // Streams in both directions send and receive super-packets, datagrams of 64 KB fragments.
    let (p1, p2) = (cluster.pod("p1")?, cluster.pod("p2")?);
    for (from, to) in [(&p1, &p2), (&p2, &p1)] {
        iperf(from, to, &[]).await?;
        iperf(from, to, &["-u", "-b", "0", "-l", "60000"]).await?;
    }
    let settled = eventually("the agents have given memory back", SOON, || async {
        let held = most(&nodes).map_err(|error| error.to_string())?;
        match held <= GOAL_MB {
            true => Ok(held),
            false => Err(format!("{held:.2} MB")),
        }
    })
    .await;
    let held = match settled {
        Ok(held) => held,
        Err(_) => most(&nodes)?,
    };
    let name = format!("agent's memory after streams of large packets, {backend}");
    results.add_with_goal(name, "MB", held, GOAL_MB);
    Ok(())
}

fn most(nodes: &[Node]) -> Result<f64> {
    let all: Vec<f64> = nodes.iter().map(resident_mb).collect::<Result<_>>()?;
    Ok(all.into_iter().fold(0.0, f64::max))
}

fn resident_mb(node: &Node) -> Result<f64> {
    let agent = node.agent_id().context("no agent runs")?;
    let status = std::fs::read_to_string(format!("/proc/{agent}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?
        .parse()?;
    Ok(kib / 1024.0)
}
