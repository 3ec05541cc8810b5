//! How an agent is met in a phase of its life, and what shows that it was.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podlab::agent::AgentError;
use podlab::event::Kind;
use podlab::eventually::eventually;
use podlab::netlink::Route;
use podlab::process::Process;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet};
use podlab::{Cluster, Error, Node};
use podlab_scenarios::seed::{TEST_TOOLS, TUNNEL, UNDERLAY};

use crate::modes::set;
use crate::restart::SOON;

/// What an agent is at when the signal comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its process exists, and has not chosen its encapsulation.
    Starting,
    /// It is bringing the kernel to what is wanted: some of the routes are there, and some not.
    Syncing,
    /// All is as wanted.
    Ready,
    /// The pool's mode was changed: some of the routes are as before, and some not.
    ChangingMode,
    /// It was told to end, and has not ended.
    ShuttingDown,
}

/// What an agent is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disturbance {
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    StopAndContinue,
    Terminate,
}

/// A node that nobody has booted, with so many blocks that their routes take a while.
const CROWD: &str = "nodes/crowd.json";
/// So many at the first attempt. Where an agent was done with them before the test heard of it, the
/// later ones have more.
const FEWEST_BLOCKS: usize = 200;
const MOST_BLOCKS: usize = 1600;

/// The agent of a node that is disturbed.
pub(crate) struct Subject<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    blocks: usize,
}

/// Of the crowd's routes on the node, those by the tunnel and those by the underlay.
#[derive(Debug, PartialEq, Eq)]
struct Crowd {
    tunnel: usize,
    underlay: usize,
}

impl Crowd {
    fn of(routes: &[Route]) -> Self {
        let by = |device: &str| {
            let of_crowd = routes.iter().filter(|r| r.destination.prefix_len() == 28);
            let by = of_crowd.filter(|r| r.interface.as_deref() == Some(device));
            by.count()
        };
        Self {
            tunnel: by(TUNNEL),
            underlay: by(UNDERLAY),
        }
    }

    /// Whether the agent is half-way.
    fn is_mixed(&self, phase: Phase, blocks: usize) -> bool {
        match phase {
            Phase::ChangingMode => self.tunnel > 0 && self.underlay > 0,
            _ => self.tunnel > 0 && self.tunnel < blocks,
        }
    }
}

/// Sends a signal; says whether there was somebody to get it.
fn send(agent: u32, signal: Signal) -> Result<bool> {
    match kill(Pid::from_raw(agent.cast_signed()), signal) {
        Ok(()) => Ok(true),
        // It has ended before the signal came.
        Err(Errno::ESRCH) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{signal} to the agent")),
    }
}

/// The state of a process in one letter, proc_pid_stat(5); `None` when there is none.
fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until a process is in one of these states, or gone.
async fn until_state(process: u32, wanted: &[char]) -> Result<()> {
    eventually("the signal has come", SOON, || async {
        match state(process) {
            Some(state) if !wanted.contains(&state) => Err(state),
            _ => Ok(()),
        }
    })
    .await?;
    Ok(())
}

impl<'a> Subject<'a> {
    pub(crate) fn new(cluster: &'a Cluster, node: &'a Node) -> Self {
        Self {
            cluster,
            node,
            blocks: FEWEST_BLOCKS,
        }
    }

    /// A while: as many pings as one after the other take on a way that needs no agent.
    pub(crate) async fn a_while(&self) -> Result<()> {
        let pod = self.cluster.pod(TEST_TOOLS)?;
        for _ in 0..50 {
            self.node.ping(&pod).await?;
        }
        Ok(())
    }

    /// Brings the agent into the phase and disturbs it there; says whether it was there when the
    /// signal came. Then it has been disturbed, and may be dead.
    pub(crate) async fn disturb_in(&self, phase: Phase, how: Disturbance) -> Result<bool> {
        let events = self.cluster.events().all().len();
        let met = match phase {
            Phase::Ready => self.disturb(self.agent()?, how, async || Ok(true)).await?,
            Phase::ShuttingDown => self.while_it_ends(how).await?,
            Phase::Starting | Phase::Syncing => self.while_it_starts(phase, how).await?,
            Phase::ChangingMode => {
                self.write_crowd()?;
                self.until_crowd(|crowd| crowd.tunnel == self.blocks)
                    .await?;
                let (agent, mut monitor) = (self.agent()?, self.routes_change()?);
                set(self.cluster, CrossSubnet).await?;
                self.half_way(phase, &mut monitor).await
                    && self.disturb_half_way(phase, agent, how).await?
            }
        };
        if !met {
            return Ok(false);
        }
        let ends = how != Disturbance::StopAndContinue || phase == Phase::ShuttingDown;
        if ends {
            eventually("the agent has ended", SOON, || async {
                // One that was never ready has no death of its own: its start has failed.
                let gone = !self.node.is_agent_running() || !self.died(events).is_empty();
                gone.then_some(()).ok_or("it runs")
            })
            .await?;
        } else {
            self.a_while().await?;
            ensure!(self.died(events).is_empty(), "SIGSTOP and SIGCONT ended it");
        }
        Ok(true)
    }

    /// After a phase that was not met: all is as at the beginning, and the next attempt lasts longer.
    pub(crate) async fn recover(&mut self) -> Result<()> {
        self.blocks = (self.blocks + FEWEST_BLOCKS / 2).min(MOST_BLOCKS);
        self.node.start_agent().await?;
        set(self.cluster, Always).await?;
        self.cluster.datastore().remove(CROWD).ok();
        self.until_crowd(|crowd| {
            *crowd
                == Crowd {
                    tunnel: 0,
                    underlay: 0,
                }
        })
        .await
    }

    /// Waits until the crowd's routes, where there is a crowd, are as the mode says.
    pub(crate) async fn has_all_routes(&self, phase: Phase, mode: Encapsulation) -> Result<()> {
        let there = match phase {
            Phase::Syncing | Phase::ChangingMode => self.blocks,
            _ => 0,
        };
        let all = match mode {
            Always => Crowd {
                tunnel: there,
                underlay: 0,
            },
            _ => Crowd {
                tunnel: 0,
                underlay: there,
            },
        };
        self.until_crowd(|crowd| *crowd == all).await
    }

    fn agent(&self) -> Result<u32> {
        self.node.agent_id().context("no agent runs")
    }

    fn write_crowd(&self) -> Result<()> {
        let blocks: Vec<String> = (0..self.blocks)
            .map(|n| format!("\"192.168.{}.{}/28\"", 128 + n / 16, n % 16 * 16))
            .collect();
        let node = format!(
            r#"{{"address":"10.12.22.77/16","blocks":[{}]}}"#,
            blocks.join(",")
        );
        Ok(self.cluster.datastore().write(CROWD, node.as_bytes())?)
    }

    async fn crowd(&self) -> Result<Crowd> {
        Ok(Crowd::of(&self.node.routes().await?))
    }

    async fn until_crowd(&self, wanted: impl Fn(&Crowd) -> bool) -> Result<()> {
        eventually("the crowd's routes are as wanted", SOON, || async {
            let crowd = self.crowd().await.map_err(|error| error.to_string())?;
            match wanted(&crowd) {
                true => Ok(()),
                false => Err(format!("{crowd:?}")),
            }
        })
        .await?;
        Ok(())
    }

    /// Hears of every route of the node that changes. Whoever asked for all routes again and again
    /// would keep the kernel's one lock for them from the agent.
    fn routes_change(&self) -> Result<Process> {
        Ok(self.node.spawn("ip -o monitor route")?)
    }

    /// Waits until the agent has written some of the crowd's routes as the phase wants them, and
    /// not more than a few; not when nothing is heard of it.
    async fn half_way(&self, phase: Phase, monitor: &mut Process) -> bool {
        let device = match phase {
            Phase::ChangingMode => UNDERLAY,
            _ => TUNNEL,
        };
        let written = |line: &str| {
            let mut words = line.split(' ');
            !line.starts_with("Deleted")
                && words.any(|word| word.ends_with("/28"))
                && line.contains(&format!("dev {device} "))
        };
        monitor.wait_for_line(written, SOON / 4).await.is_ok()
    }

    /// Sends the signal; what `met` says is asked while nothing can change: the agent is dead, or
    /// stopped. One that is told to end is asked before.
    async fn disturb(
        &self,
        agent: u32,
        how: Disturbance,
        met: impl AsyncFnOnce() -> Result<bool>,
    ) -> Result<bool> {
        match how {
            Disturbance::Terminate => Ok(met().await? && send(agent, Signal::SIGTERM)?),
            Disturbance::Kill => {
                let sent = send(agent, Signal::SIGKILL)?;
                until_state(agent, &['Z', 'X']).await?;
                Ok(sent && met().await?)
            }
            Disturbance::StopAndContinue => {
                let sent = send(agent, Signal::SIGSTOP)?;
                until_state(agent, &['T', 'Z', 'X']).await?;
                let met = sent && met().await?;
                self.a_while().await?;
                Ok(send(agent, Signal::SIGCONT)? && met)
            }
        }
    }

    async fn disturb_half_way(&self, phase: Phase, agent: u32, how: Disturbance) -> Result<bool> {
        let met = async || Ok(self.crowd().await?.is_mixed(phase, self.blocks));
        self.disturb(agent, how, met).await
    }

    /// The second signal, as soon as the first was sent.
    async fn while_it_ends(&self, how: Disturbance) -> Result<bool> {
        let (agent, events) = (self.agent()?, self.cluster.events().all().len());
        send(agent, Signal::SIGTERM)?;
        let alive = state(agent).is_some_and(|state| !matches!(state, 'Z' | 'X'));
        let stopped = async || Ok(state(agent) == Some('T'));
        let met = match how {
            Disturbance::Terminate => alive && send(agent, Signal::SIGTERM)?,
            Disturbance::StopAndContinue => self.disturb(agent, how, stopped).await?,
            Disturbance::Kill => {
                self.disturb(agent, how, async || Ok(true)).await?;
                eventually("its end is told", SOON, || async {
                    (!self.died(events).is_empty())
                        .then_some(())
                        .ok_or("not yet")
                })
                .await?;
                self.died(events)
                    .iter()
                    .any(|status| status.contains("SIGKILL"))
            }
        };
        Ok(met)
    }

    async fn while_it_starts(&self, phase: Phase, how: Disturbance) -> Result<bool> {
        let mut monitor = self.routes_change()?;
        self.node.stop_agent().await?;
        if phase == Phase::Syncing {
            self.write_crowd()?;
        }
        let skip = self.node.agent_log()?.len();
        let log = || -> Result<String> {
            let log = self.node.agent_log()?;
            Ok(log.get(skip..).unwrap_or_default().to_owned())
        };
        let mut events = self.cluster.events().subscribe();
        let disturbed = async {
            let agent = loop {
                let event = events.recv().await?;
                let ours = event.machine.as_deref() == Some(self.node.name());
                if let Kind::AgentStarted { pid: Some(pid), .. } = event.kind
                    && ours
                {
                    break pid;
                }
            };
            if phase == Phase::Starting {
                let early = async || Ok(!log()?.contains("encapsulation: "));
                return self.disturb(agent, how, early).await;
            }
            Ok(self.half_way(phase, &mut monitor).await
                && self.disturb_half_way(phase, agent, how).await?)
        };
        let (started, disturbed) = tokio::join!(self.node.start_agent(), disturbed);
        let met = disturbed?;
        match started {
            // It was told to end before it was ready, and was ready first.
            Ok(_) if phase == Phase::Starting && how != Disturbance::StopAndContinue => Ok(false),
            Ok(_) => Ok(met),
            // One that was only stopped has to live.
            Err(Error::Agent(AgentError::Ended { .. })) if how != Disturbance::StopAndContinue => {
                Ok(met)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How agents of the node have ended since so many events.
    fn died(&self, events: usize) -> BTreeSet<String> {
        let all = self.cluster.events().all();
        let new = all
            .iter()
            .skip(events)
            .filter_map(|event| match &event.kind {
                Kind::AgentDied { status } => Some(status.clone()),
                _ => None,
            });
        new.collect()
    }
}
