//! How long it takes to ask all pairs of 20 pods, against asking one after the other.

use std::time::Instant;

use anyhow::{Result, ensure};
use podlab::Cluster;
use podlab::event::Protocol;
use podlab::process::Program;
use podlab::spec::ClusterSpec;

use super::results::{Results, median, ms};

pub(crate) const NAME: &str = "matrix";
const NODES: usize = 4;
const PODS: usize = 5;
const TIMES: usize = 7;

/// Asks all 380 pairs by four protocols at once, and by ping alone.
pub(crate) async fn run(results: &mut Results) -> Result<()> {
    let cluster = spec().boot().await?;
    let pairs = cluster.pods().len() * (cluster.pods().len() - 1);
    // The first packets of every pair pay for neighbour discovery, whoever sends them.
    cluster.matrix().all_pods().prove().await?;

    let (mut all, mut pings) = (Vec::new(), Vec::new());
    let (mut calls, mut processes) = (Vec::new(), Vec::new());
    for time in 0..TIMES {
        let start = Instant::now();
        let matrix = cluster.matrix().all_pods().prove().await?;
        all.push(ms(start.elapsed()));
        ensure!(matrix.checks.len() == pairs * 4, "not all pairs were asked");

        let start = Instant::now();
        cluster
            .matrix()
            .all_pods()
            .protocols([Protocol::Icmp])
            .prove()
            .await?;
        pings.push(ms(start.elapsed()));

        let start = Instant::now();
        one_after_the_other(&cluster).await?;
        calls.push(ms(start.elapsed()));
        // Takes as long as everything else together.
        if time % 3 == 0 {
            let start = Instant::now();
            by_processes(&cluster).await?;
            processes.push(ms(start.elapsed()));
        }
    }
    let processes = median(&mut processes);
    results.add(
        format!("matrix of {pairs} pairs × 4 protocols"),
        "ms",
        median(&mut all),
        processes,
        "a ping process for each pair, ICMP alone",
    );
    let pings = median(&mut pings);
    results.add(
        format!("matrix of {pairs} pairs, ICMP alone"),
        "ms",
        pings,
        processes,
        "a ping process for each pair",
    );
    results.add(
        format!("matrix of {pairs} pairs, ICMP alone, source seen"),
        "ms",
        pings,
        median(&mut calls),
        "in-process pings one after the other",
    );
    Ok(())
}

/// Four nodes with five pods each.
pub(super) fn spec() -> ClusterSpec {
    (1..=NODES).fold(Cluster::builder(), |spec, node| {
        let name = format!("n{node}");
        let block = format!("192.168.{node}");
        let spec = spec.node(&name, |n| {
            n.address(format!("10.12.22.{node}/16"))
                .block(format!("{block}.0/24"))
        });
        (1..=PODS).fold(spec, |spec, pod| {
            let address = format!("{block}.{}", pod + 1);
            spec.pod(format!("p{node}-{pod}"), |p| p.on(&name).address(address))
        })
    })
}

async fn one_after_the_other(cluster: &Cluster) -> Result<()> {
    for from in cluster.pods() {
        for to in cluster.pods().iter().filter(|to| to.name() != from.name()) {
            from.ping(to).await?;
        }
    }
    Ok(())
}

async fn by_processes(cluster: &Cluster) -> Result<()> {
    for from in cluster.pods() {
        for to in cluster.pods().iter().filter(|to| to.name() != from.name()) {
            let address = to.address().to_string();
            let ping = Program::new("ping").args(["-n", "-c", "1", "-W", "1", &address]);
            from.exec(ping).await?.success()?;
        }
    }
    Ok(())
}
