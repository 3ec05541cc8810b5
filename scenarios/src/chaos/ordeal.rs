//! A cluster that goes through a schedule, and what is asked of it afterwards.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::Cluster;
use podlab::event::Kind as Event;
use podlab::eventually::eventually;
use podlab::fault::Fault;
use podlab::probe::icmp::PingOptions;
use podlab::spec::ClusterSpec;
use podlab::suite::Feature;
use podlab::timeline::Outages;
use tokio::time::{Instant, interval_at};

use super::begin::trouble_begins;
use super::schedule::{Act, NODES, Schedule};

/// Probes of each pair, each second.
const RATE: u32 = 20;
/// How long it may take until all is as before.
const SOON: Duration = Duration::from_secs(20);
/// How long one ping may take.
const ANSWER: Duration = Duration::from_millis(300);

/// What a cluster went through.
#[derive(Debug)]
pub struct Endured {
    schedule: Schedule,
    encapsulation: String,
    untouched: usize,
    outages: Outages,
}

/// Has a cluster go through the schedule of a seed.
///
/// # Errors
/// When the cluster is not as before in the end, a pair whose path nobody touched has lost a packet,
/// or an agent has ended by itself; with the schedule and the command that repeats it.
pub async fn endure(seed: u64) -> Result<Endured> {
    let schedule = Schedule::new(seed, Feature::Netem.probe().is_ok());
    let told = schedule.to_string();
    let endured = go_through(schedule).await;
    endured.with_context(|| format!("{told}\nreplay: make chaos SEED={seed} N=1"))
}

async fn go_through(schedule: Schedule) -> Result<Endured> {
    let cluster = spec().boot().await?;
    converged(&cluster).await?;
    let before = routes(&cluster).await?;
    let encapsulation = cluster.node("n1")?.agent_status().encapsulation;
    let timeline = cluster.timeline().among(cluster.pods()).rate(RATE);
    let timeline = timeline.start().await?;
    let acted = act(&cluster, &schedule).await;
    let end = async {
        acted?;
        cluster.heal_all().await?;
        converged(&cluster).await?;
        let what = "the routes are as before";
        eventually(what, SOON, || async {
            let now = routes(&cluster).await.map_err(|error| error.to_string())?;
            match now == before {
                true => Ok(()),
                false => Err(difference(&before, &now)),
            }
        })
        .await?;
        Ok::<_, anyhow::Error>(())
    };
    let ended = end.await;
    let outages = timeline.stop().await?;
    ended.with_context(|| outages.to_string())?;
    no_agent_died(&cluster)?;
    let untouched = schedule.untouched(encapsulation == "userspace");
    nothing_lost(&outages, &untouched)?;
    Ok(Endured {
        schedule,
        encapsulation,
        untouched: untouched.len(),
        outages,
    })
}

fn spec() -> ClusterSpec {
    let mut spec = Cluster::builder().pool("192.168.0.0/16", |pool| pool);
    for number in 1..=NODES {
        spec = spec
            .node(format!("n{number}"), |node| {
                node.address(format!("10.12.0.{number}/16"))
                    .block(format!("192.168.{number}.0/24"))
            })
            .pod(format!("p{number}"), |pod| {
                pod.on(format!("n{number}"))
                    .address(format!("192.168.{number}.5"))
            });
    }
    spec
}

/// Goes through the steps at their times, or one after the other where the machine is slower.
async fn act(cluster: &Cluster, schedule: &Schedule) -> Result<()> {
    let begin = Instant::now();
    let mut faults: Vec<Option<Fault>> = vec![None; schedule.troubles().len()];
    for (at, act) in schedule.acts() {
        // The time of a step is what a schedule is about; nothing is waited for.
        let due = begin + Duration::from_millis(at);
        interval_at(due, Duration::from_secs(1)).tick().await;
        match act {
            Act::Begin(place) => {
                let kind = schedule.troubles()[place].kind;
                let fault = trouble_begins(cluster, kind).await;
                faults[place] = Some(fault.with_context(|| kind.to_string())?);
            }
            Act::End(place) => {
                let kind = schedule.troubles()[place].kind;
                if let Some(fault) = &faults[place] {
                    let healed = fault.heal().await;
                    healed.with_context(|| format!("heal: {kind}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Waits until every pod reaches every other.
async fn converged(cluster: &Cluster) -> Result<()> {
    let options = PingOptions {
        timeout: ANSWER,
        ..PingOptions::default()
    };
    eventually("every pod reaches every other", SOON, || async {
        for from in cluster.pods() {
            for to in cluster.pods() {
                let pong = from.ping_with(&to, &options).await;
                pong.map_err(|error| format!("{} to {}: {error}", from.name(), to.name()))?;
            }
        }
        Ok::<_, String>(())
    })
    .await?;
    Ok(())
}

/// The routes of all nodes and pods, a line each.
async fn routes(cluster: &Cluster) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for node in cluster.nodes() {
        let routes = node.routes().await?;
        lines.extend(routes.iter().map(|r| format!("{}: {r:?}", node.name())));
    }
    for pod in cluster.pods() {
        let routes = pod.routes().await?;
        lines.extend(routes.iter().map(|r| format!("{}: {r:?}", pod.name())));
    }
    lines.sort();
    Ok(lines)
}

fn difference(before: &[String], now: &[String]) -> String {
    let only = |some: &[String], others: &[String], sign: &str| -> Vec<String> {
        let only = some.iter().filter(|line| !others.contains(line));
        only.map(|line| format!("{sign} {line}")).collect()
    };
    [only(before, now, "-"), only(now, before, "+")]
        .concat()
        .join("\n")
}

fn no_agent_died(cluster: &Cluster) -> Result<()> {
    for event in cluster.events().all() {
        let died = matches!(event.kind, Event::AgentDied { .. });
        ensure!(
            !died,
            "{}: {}",
            event.machine.as_deref().unwrap_or_default(),
            event.kind
        );
    }
    for node in cluster.nodes() {
        ensure!(node.is_agent_running(), "{} has no agent", node.name());
    }
    Ok(())
}

fn nothing_lost(outages: &Outages, untouched: &[(usize, usize)]) -> Result<()> {
    for (from, to) in untouched {
        let pair = outages.pair(&format!("p{}", from + 1), &format!("p{}", to + 1))?;
        let name = pair.name();
        ensure!(pair.sent > 0, "{name}: nothing was sent\n{outages}");
        // An answer that came and found no room in our own socket was not lost by the network.
        ensure!(
            pair.lost <= pair.overflowed,
            "{name}: {} of {} lost, and nothing touched the path\n{outages}",
            pair.lost,
            pair.sent
        );
    }
    Ok(())
}

/// `seed 3, ebpf: 10 troubles in 4.1 s; 8 of 30 pairs untouched, nothing lost; 211 of 2400 in all`
impl fmt::Display for Endured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}, {}: {} troubles in {:.1?}; {} of {} pairs untouched, nothing lost there; {} of {} probes lost in all",
            self.schedule.seed(),
            self.encapsulation,
            self.schedule.troubles().len(),
            self.outages.duration,
            self.untouched,
            self.outages.pairs.len(),
            self.outages.lost(),
            self.outages.sent()
        )
    }
}
