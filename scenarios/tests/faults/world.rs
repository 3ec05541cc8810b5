//! A cluster to break, pings that are counted, and its state in words.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::agent::PodlabAgent;
use podlab::process::Program;
use podlab::{Cluster, Machine};
use podlab_scenarios::backend;
use podlab_scenarios::seed;

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

/// What the kernel has of all machines, a line for each thing, in words that do not depend on the
/// time: devices, addresses, routes, permanent neighbours, queueing disciplines, nftables, mounts.
pub(crate) async fn state(cluster: &Cluster) -> Result<Vec<String>> {
    let mut state = state_of(cluster.fabric()).await?;
    for node in cluster.nodes() {
        state.extend(state_of(&node).await?);
    }
    for pod in cluster.pods() {
        state.extend(state_of(&pod).await?);
    }
    Ok(state)
}

async fn state_of(machine: &Machine) -> Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    for link in machine.links().await? {
        lines.push(format!("{link:?}"));
    }
    for address in machine.addresses().await? {
        lines.push(format!("{address:?}"));
    }
    for route in machine.routes().await? {
        lines.push(format!("{route:?}"));
    }
    for command in [
        "ip neigh show nud permanent",
        "tc qdisc show",
        "nft -s list ruleset",
        "cat /proc/self/mounts",
    ] {
        let told = machine.exec(command).await?.success()?.stdout;
        lines.extend(told.lines().map(str::to_owned));
    }
    let name = machine.name();
    Ok(lines
        .into_iter()
        .map(|line| format!("{name}: {line}"))
        .collect())
}

/// Fails with the lines that are on one side only.
pub(crate) fn same(before: &[String], after: &[String]) -> Result<()> {
    let only = |some: &[String], others: &[String], sign: &str| -> Vec<String> {
        let missing = some.iter().filter(|line| !others.contains(line));
        missing.map(|line| format!("{sign} {line}")).collect()
    };
    let mut lines = only(before, after, "-");
    lines.extend(only(after, before, "+"));
    ensure!(lines.is_empty(), "not as before:\n{}", lines.join("\n"));
    ensure!(before.len() == after.len(), "the same lines, not as often");
    Ok(())
}

/// The same, but what the agents put right by themselves may take its time.
pub(crate) async fn same_soon(cluster: &Cluster, before: &[String]) -> Result<()> {
    podlab::eventually::eventually("all is as before", SOON, || async {
        let after = state(cluster).await.map_err(|error| error.to_string())?;
        same(before, &after).map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}
