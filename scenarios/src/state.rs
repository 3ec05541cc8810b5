//! What the kernel has of a whole cluster, in words that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use podlab::eventually::eventually;
use podlab::process::Program;
use podlab::{Cluster, Machine};
use tokio::task::JoinSet;

/// What is read in the words of programs that are not ours.
const TOLD: &str = "ip neigh show nud permanent && tc qdisc show && nft -s list ruleset && \
    cat /proc/self/mounts && grep -rs . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf";

/// The devices that agents make.
const TUNNEL: &str = "tunl0";

/// What the kernel has of all machines, a line for each thing, in words that depend neither on the
/// time nor on what a machine gets anew at each boot (numbers of devices, the tunnel's hardware
/// address): devices, addresses, routes, permanent neighbours, queueing
/// disciplines, nftables, mounts, and IPv4's parameters of all devices.
///
/// # Errors
/// When a machine cannot be asked.
pub async fn state(cluster: &Cluster) -> Result<Vec<String>> {
    let mut machines = vec![cluster.fabric().clone()];
    machines.extend(cluster.nodes().iter().map(|node| (**node).clone()));
    machines.extend(cluster.pods().iter().map(|pod| (**pod).clone()));
    let mut asked = JoinSet::new();
    for machine in machines {
        asked.spawn(async move { state_of(&machine).await });
    }
    let mut state = Vec::new();
    while let Some(lines) = asked.join_next().await {
        state.extend(lines??);
    }
    state.sort();
    Ok(state)
}

async fn state_of(machine: &Machine) -> Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    let links = machine.links().await?;
    let names: BTreeMap<u32, String> = links.iter().map(|l| (l.index, l.name.clone())).collect();
    for mut link in links {
        // A device that was made anew has another number.
        link.index = 0;
        // Nor is the tunnel's hardware address the same, which the kernel draws.
        if link.name.starts_with(TUNNEL) {
            link.mac = None;
        }
        let master = link.master.take().map(|index| names.get(&index));
        lines.push(format!("{link:?} of {master:?}"));
    }
    for address in machine.addresses().await? {
        lines.push(format!("{address:?}"));
    }
    for route in machine.routes().await? {
        lines.push(format!("{route:?}"));
    }
    let told = Program::new("sh").args(["-c", TOLD]);
    let told = machine.exec(told).await?.success()?.stdout;
    lines.extend(told.lines().map(str::to_owned));
    let name = machine.name();
    Ok(lines
        .into_iter()
        .map(|line| format!("{name}: {line}"))
        .collect())
}

/// Compares two states.
///
/// # Errors
/// With the lines that are on one side only: `-` before, `+` after.
pub fn same(before: &[String], after: &[String]) -> Result<()> {
    let only = |some: &[String], others: &[String], sign: &str| -> Vec<String> {
        let others: BTreeSet<&String> = others.iter().collect();
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
///
/// # Errors
/// When it is not so after `soon`, with the difference of the last look.
pub async fn same_soon(cluster: &Cluster, before: &[String], soon: Duration) -> Result<()> {
    eventually("all is as before", soon, || async {
        let after = state(cluster).await.map_err(|error| error.to_string())?;
        same(before, &after).map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}
