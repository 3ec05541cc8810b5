//! What the scenarios share: the cluster, its agents' encapsulation, and how to break it by hand.

use std::time::Duration;

use anyhow::Result;
use podlab::agent::PodlabAgent;
use podlab::capture::{Capture, Captured, Filter};
use podlab::eventually::eventually;
use podlab::machine::Machine;
use podlab::probe::icmp::PingOptions;
use podlab::process::Program;
use podlab::spec::{ClusterSpec, Encapsulation};
use podlab::{Cluster, Error, Node, Pod};
use podlab_scenarios::seed::WORKER_1;

pub(crate) const SOON: Duration = Duration::from_secs(5);
pub(crate) const ICMP: u8 = 1;
pub(crate) const IPIP: u8 = 4;

/// Boots with one encapsulation in every node; `None` when the kernel does not offer it.
pub(crate) async fn boot(spec: ClusterSpec, encapsulation: &str) -> Result<Cluster> {
    let agent = PodlabAgent::with_encapsulation(encapsulation);
    Ok(podlab_scenarios::backend::boot(spec, agent, encapsulation).await?)
}

/// The cluster in this mode. For `cross-subnet` worker 1 is moved to a subnet of its own, so that
/// what it exchanges with the others is tunnelled as in `always`.
pub(crate) fn in_mode(mut spec: ClusterSpec, mode: Encapsulation) -> ClusterSpec {
    for pool in &mut spec.pools {
        pool.encapsulation = mode;
    }
    if mode == Encapsulation::CrossSubnet {
        let worker = spec.nodes.iter_mut().find(|node| node.name == WORKER_1);
        worker.expect("the seed has it").address = "10.13.22.2/16".to_owned();
    }
    spec
}

pub(crate) fn shell(script: &str) -> Program {
    Program::new("sh").args(["-c", script])
}

/// Runs a script on a machine, which has to succeed; returns what it printed.
pub(crate) async fn run(machine: &Machine, script: &str) -> Result<String> {
    Ok(machine.exec(shell(script)).await?.success()?.stdout)
}

/// The table of the agent as `nft` prints it; empty when there is none.
pub(crate) async fn table(node: &Node) -> Result<String, Error> {
    let output = node.exec(shell("nft -s list table ip podlab 2>/dev/null"));
    Ok(output.await?.stdout)
}

/// Waits until the agent's table says, or no longer says, something.
pub(crate) async fn table_says(node: &Node, words: &str, says: bool) -> Result<()> {
    let what = format!("the table of {} follows the datastore", node.name());
    eventually(what, SOON, || async {
        let table = table(node).await.map_err(|error| error.to_string())?;
        match table.contains(words) == says {
            true => Ok(()),
            false => Err(table),
        }
    })
    .await?;
    Ok(())
}

/// Waits until an agent has no route to a destination any more.
pub(crate) async fn route_is_gone(node: &Node, destination: &str) -> Result<()> {
    let what = format!("{} has no route to {destination}", node.name());
    eventually(what, SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        match routes
            .iter()
            .any(|r| r.destination.to_string() == destination)
        {
            true => Err(format!("{routes:?}")),
            false => Ok(()),
        }
    })
    .await?;
    Ok(())
}

/// Echo requests that arrive at a pod.
pub(crate) fn requests_to(pod: &Pod) -> Result<Capture> {
    let requests = Filter::protocol(ICMP).and(Filter::destination(pod.address()));
    Ok(pod.capture("eth0", &requests)?)
}

/// A ping that nobody will answer need not be waited for long.
pub(crate) fn impatient() -> PingOptions {
    PingOptions {
        timeout: Duration::from_millis(300),
        ..PingOptions::default()
    }
}

/// Whether a packet's innermost source is this one.
pub(crate) fn is_from(captured: &Captured, source: std::net::Ipv4Addr) -> bool {
    let ip = captured.packet.inner_ipv4();
    ip.is_some_and(|ip| ip.source == source)
}
