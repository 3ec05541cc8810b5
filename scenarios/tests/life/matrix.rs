//! Every phase of an agent's life, and every way to disturb it there.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podlab::agent::AgentError;
use podlab::event::Kind;
use podlab::eventually::eventually;
use podlab::spec::Encapsulation::{Always, CrossSubnet};
use podlab::{Cluster, Error, Node};
use podlab_scenarios::seed::{DEMO_W2, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::flow::Flow;
use crate::modes::{is_in, seed_in, set};
use crate::restart::SOON;

/// What an agent is at when the signal comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its process exists, and has not looked at anything yet.
    Starting,
    /// It has chosen its encapsulation and is bringing the kernel to what is wanted.
    Syncing,
    /// All is as wanted.
    Ready,
    /// The pool's mode has just been changed.
    ChangingMode,
    /// It was told to end.
    ShuttingDown,
}

/// What an agent is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    StopAndContinue,
    Terminate,
}

/// A while: as many pings as one after the other take on a way that needs no agent.
async fn a_while(node: &Node, cluster: &Cluster) -> Result<()> {
    let pod = cluster.pod(TEST_TOOLS)?;
    for _ in 0..50 {
        node.ping(&pod).await?;
    }
    Ok(())
}

fn send(agent: u32, signal: Signal) -> Result<()> {
    let agent = Pid::from_raw(i32::try_from(agent)?);
    match kill(agent, signal) {
        // It has ended before the signal came: in its last phases that is a race by nature.
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{signal} to the agent")),
    }
}

async fn disturb(node: &Node, cluster: &Cluster, agent: u32, how: Disturbance) -> Result<()> {
    match how {
        Disturbance::Kill => send(agent, Signal::SIGKILL),
        Disturbance::Terminate => send(agent, Signal::SIGTERM),
        Disturbance::StopAndContinue => {
            send(agent, Signal::SIGSTOP)?;
            a_while(node, cluster).await?;
            send(agent, Signal::SIGCONT)
        }
    }
}

/// Waits for the agent that was started after so many events; with these words in its log, of which
/// the first `skip` bytes are older.
async fn newborn(
    cluster: &Cluster,
    node: &Node,
    events: usize,
    words: (usize, &str),
) -> Result<u32> {
    let (skip, words) = words;
    let what = format!("an agent on {} says {words:?}", node.name());
    let id = eventually(what, SOON, || async {
        let log = node.agent_log().map_err(|error| error.to_string())?;
        let all = cluster.events().all();
        let id = all.iter().skip(events).find_map(|event| match event.kind {
            Kind::AgentStarted { pid, .. } => pid,
            _ => None,
        });
        let said = log.get(skip..).is_some_and(|new| new.contains(words));
        id.filter(|_| said).ok_or(log)
    });
    Ok(id.await?)
}

/// Whether an agent has ended since so many events.
fn has_ended(cluster: &Cluster, events: usize) -> bool {
    let all = cluster.events().all();
    let mut new = all.iter().skip(events);
    new.any(|event| matches!(event.kind, Kind::AgentDied { .. }))
}

/// Brings the agent into the phase and disturbs it there.
async fn disturb_in(phase: Phase, node: &Node, cluster: &Cluster, how: Disturbance) -> Result<()> {
    let events = cluster.events().all().len();
    let mut failed = false;
    match phase {
        Phase::Ready | Phase::ChangingMode | Phase::ShuttingDown => {
            let agent = node.agent_id().context("no agent runs")?;
            match phase {
                Phase::ChangingMode => set(cluster, CrossSubnet).await?,
                Phase::ShuttingDown => send(agent, Signal::SIGTERM)?,
                _ => {}
            }
            disturb(node, cluster, agent, how).await?;
        }
        Phase::Starting | Phase::Syncing => {
            node.stop_agent().await?;
            let skip = node.agent_log()?.len();
            let events = cluster.events().all().len();
            let words = if phase == Phase::Starting {
                ""
            } else {
                "encapsulation: "
            };
            let disturbed = async {
                let agent = newborn(cluster, node, events, (skip, words)).await?;
                disturb(node, cluster, agent, how).await
            };
            let (started, disturbed) = tokio::join!(node.start_agent(), disturbed);
            disturbed?;
            match started {
                Ok(_) => {}
                // It does not live to be ready; one that was only stopped has to.
                Err(Error::Agent(AgentError::Ended { .. }))
                    if how != Disturbance::StopAndContinue =>
                {
                    failed = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    if how == Disturbance::StopAndContinue && phase != Phase::ShuttingDown {
        a_while(node, cluster).await?;
        ensure!(!has_ended(cluster, events), "SIGSTOP and SIGCONT ended it");
    } else if !failed {
        eventually("the agent has ended", SOON, || async {
            has_ended(cluster, events).then_some(()).ok_or("it runs")
        })
        .await?;
    }
    Ok(())
}

/// Proves that there is no moment at which an agent must not be killed, halted or stopped: where the
/// kernel carries the packets none is lost, whatever it was at, and its next life finishes what the
/// former one has begun. With `userspace` the agent is the one that carries, and the gap is printed.
#[rstest]
#[podlab::test]
async fn an_agent_may_be_disturbed_at_any_time(
    #[values(
        Phase::Starting,
        Phase::Syncing,
        Phase::Ready,
        Phase::ChangingMode,
        Phase::ShuttingDown
    )]
    phase: Phase,
    #[values(
        Disturbance::Kill,
        Disturbance::StopAndContinue,
        Disturbance::Terminate
    )]
    how: Disturbance,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = seed_in(Always, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let before = node.routes().await?;
    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;
    disturb_in(phase, &node, &cluster, how).await?;
    a_while(&node, &cluster).await?;
    node.start_agent().await?;
    let mode = match phase {
        Phase::ChangingMode => CrossSubnet,
        _ => Always,
    };
    for name in [WORKER_1, WORKER_2] {
        is_in(&cluster.node(name)?, mode).await?;
    }
    if mode == Always {
        assert_eq!(node.routes().await?, before);
    }
    a_while(&node, &cluster).await?;
    if backend != "userspace" {
        return Flow::none_lost(flows).await;
    }
    for flow in flows {
        // Fails when there are no answers any more.
        flow.count().await?;
    }
    Ok(())
}
