//! A cluster that goes through a schedule, and what is asked of it afterwards.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use podlab::agent::PodlabAgent;
use podlab::event::Kind as Event;
use podlab::eventually::eventually;
use podlab::fault::Fault;
use podlab::probe::icmp::PingOptions;
use podlab::spec::ClusterSpec;
use podlab::suite::Feature;
use podlab::timeline::Outages;
use podlab::{Cluster, patience};
use tokio::time::{Instant, interval_at};

use super::begin::trouble_begins;
use super::schedule::{Act, NODES, Schedule};
use crate::state::{same_soon, state};

/// Probes of each pair, each second of a usual machine; a slow one could not carry them.
const RATE: u32 = 20;
/// How long it may take until all is as before.
const SOON: Duration = Duration::from_secs(20);
/// How long one ping may take.
const ANSWER: Duration = Duration::from_millis(300);

/// What a cluster goes through, and how: all that a replay has to be told.
#[derive(Debug, Clone)]
pub struct Ordeal {
    /// From which the schedule is.
    pub seed: u64,
    /// Whether there are troubles that need `netem`; they change the schedule.
    pub netem: bool,
    /// The agents' encapsulation backend, which decides what packets notice of agents that are
    /// disturbed; `None` for the one that agents choose.
    pub encapsulation: Option<String>,
    /// How long it may take until all is as before.
    pub soon: Duration,
}

/// What a cluster went through.
#[derive(Debug)]
pub struct Endured {
    schedule: Schedule,
    encapsulation: String,
    untouched: usize,
    outages: Outages,
}

impl Ordeal {
    /// That of a seed on this machine: with `netem` where the kernel has it, with the encapsulation
    /// that agents choose.
    pub fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            netem: Feature::Netem.probe().is_ok(),
            encapsulation: None,
            soon: SOON,
        }
    }

    /// Has a cluster go through it.
    ///
    /// # Errors
    /// When the cluster is not as before in the end, a pair whose path nobody touched has lost a
    /// packet, or an agent has ended by itself; with the schedule and the command that repeats it.
    /// Also when the kernel lacks what was asked for.
    pub async fn endure(&self) -> Result<Endured> {
        self.endure_also(async |_| Ok(())).await
    }

    /// The same, with something more that happens before all is healed: how a test shows that the
    /// chaos notices.
    ///
    /// # Errors
    /// The same, and those of `also`.
    pub async fn endure_also(&self, also: impl AsyncFn(&Cluster) -> Result<()>) -> Result<Endured> {
        if self.netem {
            let lacking = |why| anyhow!("netem was asked for, and the kernel has none: {why}");
            Feature::Netem.probe().map_err(lacking)?;
        }
        let schedule = Schedule::new(self.seed, self.netem);
        let told = schedule.to_string();
        let mut encapsulation = self.encapsulation.clone();
        let endured = self.go_through(schedule, &mut encapsulation, also).await;
        let replay = || format!("{told}\nreplay: {}", self.replay(encapsulation.as_deref()));
        endured.with_context(replay)
    }

    /// The command that repeats it with the encapsulation that agents have taken, if they have.
    fn replay(&self, encapsulation: Option<&str>) -> String {
        let netem = if self.netem { "yes" } else { "no" };
        let encapsulation = encapsulation.map(|name| format!(" ENCAP={name}"));
        let encapsulation = encapsulation.unwrap_or_default();
        format!(
            "make chaos SEED={} N=1 NETEM={netem}{encapsulation}",
            self.seed
        )
    }

    async fn go_through(
        &self,
        schedule: Schedule,
        encapsulation: &mut Option<String>,
        also: impl AsyncFn(&Cluster) -> Result<()>,
    ) -> Result<Endured> {
        let agent = match &self.encapsulation {
            Some(name) => PodlabAgent::with_encapsulation(name),
            None => PodlabAgent::new(),
        };
        let cluster = spec().boot_with(agent).await?;
        let taken = cluster.node("n1")?.agent_status().encapsulation;
        *encapsulation = Some(taken.clone());
        converged(&cluster).await?;
        let before = state(&cluster).await?;
        let rate = patience::slowed(RATE)?;
        let timeline = cluster.timeline().among(cluster.pods()).rate(rate);
        let timeline = timeline.start().await?;
        let acted = act(&cluster, &schedule).await;
        let end = async {
            acted?;
            also(&cluster).await?;
            cluster.heal_all().await?;
            converged(&cluster).await?;
            same_soon(&cluster, &before, self.soon).await
        };
        let ended = end.await;
        let outages = timeline.stop().await?;
        // What was wrong first: what was lost and when fills screens.
        ended.map_err(|error| anyhow!("{error:#}\n{outages}"))?;
        no_agent_died(&cluster)?;
        let untouched = schedule.untouched(taken == "userspace");
        nothing_lost(&outages, &untouched)?;
        Ok(Endured {
            schedule,
            encapsulation: taken,
            untouched: untouched.len(),
            outages,
        })
    }
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
                    .serve_http(8080)
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
        let due = begin + patience::scaled(Duration::from_millis(at))?;
        interval_at(due, Duration::from_secs(1)).tick().await;
        match act {
            Act::Begin(place) => {
                let kind = schedule.troubles()[place].kind;
                let fault = trouble_begins(cluster, kind).await;
                faults[place] = fault.with_context(|| kind.to_string())?;
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

/// `seed 3, netem, ebpf: 12 troubles in 4.1 s; 8 of 30 pairs untouched, nothing lost; 211 of 2400 in all`
impl fmt::Display for Endured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}, {}{}: {} troubles in {:.1?}; {} of {} pairs untouched, nothing lost there; {} of {} probes lost in all",
            self.schedule.seed(),
            if self.schedule.with_netem() {
                "netem, "
            } else {
                ""
            },
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
