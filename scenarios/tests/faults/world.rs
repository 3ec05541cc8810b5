//! A cluster to break, and pings that are counted.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::agent::PodlabAgent;
use podlab::process::Program;
use podlab::{Cluster, Machine};
use podlab_scenarios::backend;
use podlab_scenarios::seed;
pub(crate) use podlab_scenarios::state::{same, state};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The seed's cluster with one backend in every node; a skip where the kernel lacks it.
pub(crate) async fn boot(backend: &str) -> Result<Cluster> {
    let agent = PodlabAgent::with_encapsulation(backend);
    Ok(backend::boot(seed::spec(), agent, backend).await?)
}

/// Which of `count` pings, numbered from 1, had an answer. They are sent one after the other,
/// 5 ms apart, by `ping` itself; the last answer has a second to come.
pub(crate) async fn pings(from: &Machine, to: impl ToString, count: u32) -> Result<BTreeSet<u32>> {
    pings_with(from, to, count, &[]).await
}

/// The same with more arguments for `ping`.
pub(crate) async fn pings_with(
    from: &Machine,
    to: impl ToString,
    count: u32,
    arguments: &[&str],
) -> Result<BTreeSet<u32>> {
    let count = count.to_string();
    let ping = Program::new("ping")
        .args(["-n", "-i", "0.005", "-W", "1", "-c", &count])
        .args(arguments)
        .arg(to.to_string());
    let output = from.exec(ping).await?;
    ensure!(
        output.stdout.contains("packets transmitted"),
        "ping: {output:?}"
    );
    // Answers only: the line of an ICMP error has a number, too.
    let answers = output.stdout.lines().filter(|line| line.contains("ttl="));
    let numbers = answers.map(|line| {
        let (_, rest) = line.split_once("icmp_seq=").context("no number")?;
        let (number, _) = rest.split_once(' ').context("no end of the number")?;
        Ok(number.parse()?)
    });
    numbers.collect()
}

/// Everything from 1 to `count` but for these.
pub(crate) fn all_but(count: u32, lost: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    let lost: BTreeSet<u32> = lost.into_iter().collect();
    (1..=count)
        .filter(|number| !lost.contains(number))
        .collect()
}

/// Everything from 1 to `count`.
pub(crate) fn all(count: u32) -> BTreeSet<u32> {
    all_but(count, [])
}

/// The same, but what the agents put right by themselves may take its time.
pub(crate) async fn same_soon(cluster: &Cluster, before: &[String]) -> Result<()> {
    // A look at all machines takes its time, too.
    podlab_scenarios::state::same_soon(cluster, before, 2 * SOON).await
}
