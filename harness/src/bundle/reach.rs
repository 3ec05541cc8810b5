//! Who reaches whom after a failure: one ping for every ordered pair.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::model::{Cell, Reachability};
use crate::cluster::Cluster;
use crate::machine::Machine;
use crate::probe::icmp::PingOptions;

/// More than that are a table that nobody reads, and a second that nobody wants to wait.
const MACHINES: usize = 16;

/// Pings at the same time.
const AT_ONCE: usize = 64;

/// Asks among the pods, or where there are none among the nodes.
pub(super) async fn ask(cluster: &Cluster) -> Reachability {
    let mut machines: Vec<(Machine, Ipv4Addr)> = cluster
        .pods()
        .iter()
        .map(|pod| ((**pod).clone(), pod.address()))
        .collect();
    if machines.is_empty() {
        let nodes = cluster.nodes();
        let nodes = nodes.iter().map(|node| ((**node).clone(), node.address()));
        machines = nodes.collect();
    }
    let left_out = machines.len().saturating_sub(MACHINES);
    machines.truncate(MACHINES);
    let pairs = machines
        .iter()
        .enumerate()
        .flat_map(|(from, (machine, _))| {
            let others = machines
                .iter()
                .enumerate()
                .filter(move |(to, _)| *to != from);
            others.map(move |(to, (_, address))| async move {
                (from, to, ping(machine, *address).await)
            })
        });
    let mut cells = vec![vec![None; machines.len()]; machines.len()];
    let mut answers = stream::iter(pairs).buffer_unordered(AT_ONCE);
    while let Some((from, to, cell)) = answers.next().await {
        cells[from][to] = Some(cell);
    }
    drop(answers);
    let machines = machines
        .iter()
        .map(|(machine, _)| machine.name().to_owned());
    Reachability {
        machines: machines.collect(),
        cells,
        left_out,
    }
}

async fn ping(from: &Machine, to: Ipv4Addr) -> Cell {
    let options = PingOptions {
        timeout: Duration::from_secs(1),
        ..PingOptions::default()
    };
    match from.quiet_ping(to, &options).await {
        Ok(reply) => Cell::Reached {
            ttl: reply.ttl,
            ms: (reply.rtt.as_secs_f64() * 1e6).round() / 1e3,
        },
        Err(error) => Cell::Lost {
            why: error.to_string(),
        },
    }
}
