//! What it costs to watch: the matrix over 20 pods with every device tapped, against without.

use std::time::Instant;

use anyhow::{Result, ensure};
use podlab::Cluster;

use super::matrix::spec;
use super::results::{Results, median, ms};

pub(crate) const NAME: &str = "capture";
const TIMES: usize = 9;

/// Asks all 380 pairs by four protocols, by turns with every device tapped into a file and with
/// none. What a capture costs before and after the matrix is no part of it.
pub(crate) async fn run(results: &mut Results) -> Result<()> {
    let cluster = spec().boot().await?;
    // The first packets of every pair pay for neighbour discovery, whoever watches.
    cluster.matrix().all_pods().prove().await?;

    let (mut tapped, mut untapped) = (Vec::new(), Vec::new());
    let (mut devices, mut packets) = (0, Vec::new());
    for _ in 0..TIMES {
        untapped.push(matrix(&cluster).await?);

        let set = cluster.capture().all().start().await?;
        tapped.push(matrix(&cluster).await?);
        set.stop()?;
        // A capture that loses packets under load would be a cheap one. Those that had to make
        // room in memory are in the file.
        let losses = set.losses();
        ensure!(losses.dropped == 0, "not every packet was read: {losses}");
        devices = set.taps().len();
        packets.push(set.packets().len() as f64 + losses.forgotten as f64);
    }
    let pairs = cluster.pods().len() * (cluster.pods().len() - 1);
    results.add(
        format!("matrix of {pairs} pairs × 4, {devices} devices tapped"),
        "ms",
        median(&mut tapped),
        median(&mut untapped),
        &format!("without; {:.0} packets captured", median(&mut packets)),
    );
    Ok(())
}

/// How long the matrix takes, in milliseconds.
async fn matrix(cluster: &Cluster) -> Result<f64> {
    let start = Instant::now();
    cluster.matrix().all_pods().prove().await?;
    Ok(ms(start.elapsed()))
}
