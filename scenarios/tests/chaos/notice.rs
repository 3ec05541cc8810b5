//! That chaos would notice, and how it tells.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podlab::Cluster;
use podlab::event::{Event, Kind};
use podlab::eventually::eventually;
use podlab::fault::{Direction, Loss};
use podlab_scenarios::chaos::{NODES, Ordeal, Schedule};
use podlab_scenarios::state::state;
use rstest::rstest;

/// What goes wrong, and is no fault of the schedule.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    AgentDies,
    PacketsAreLost,
    SomethingStays,
}

/// A seed of few troubles' time.
const SEED: u64 = 3;

async fn happens(cluster: &Cluster, wrong: Wrong) -> Result<()> {
    match wrong {
        Wrong::AgentDies => {
            let node = cluster.node("n1")?;
            let agent = node.agent_id().context("no agent runs")?;
            kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL)?;
            eventually("the agent is dead", Duration::from_secs(5), || async {
                let events = cluster.events().all();
                let died = |event: &Arc<Event>| matches!(event.kind, Kind::AgentDied { .. });
                events.iter().any(died).then_some(()).ok_or("it runs")
            })
            .await?;
            node.start_agent().await?;
        }
        Wrong::PacketsAreLost => {
            let untouched = Schedule::new(SEED, false).untouched(true);
            let (from, to) = untouched[0];
            ensure!(from < NODES && to < NODES);
            let wire = cluster.pod(&format!("p{}", from + 1))?.wire()?;
            let loss = wire.lose(Direction::Out, Loss::all()).await?;
            eventually("probes are lost", Duration::from_secs(5), || async {
                match loss.dropped().await {
                    // More than are under way.
                    Ok(Some(20..)) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }
        Wrong::SomethingStays => {
            let address = "ip address add 10.99.0.1/32 dev lo";
            cluster.node("n1")?.exec(address).await?.success()?;
            ensure!(
                state(cluster)
                    .await?
                    .iter()
                    .any(|line| line.contains("10.99.0.1"))
            );
        }
    }
    Ok(())
}

/// Proves that whoever sees chaos fail can repeat it: what is told has the seed, the schedule, the
/// command that makes the same schedule again, and what was wrong.
#[rstest]
#[podlab::test]
async fn what_goes_wrong_is_told_with_the_way_to_repeat_it(
    #[values(Wrong::AgentDies, Wrong::PacketsAreLost, Wrong::SomethingStays)] wrong: Wrong,
) -> Result<()> {
    let ordeal = Ordeal {
        netem: false,
        encapsulation: Some("userspace".to_owned()),
        soon: Duration::from_secs(10),
        ..Ordeal::of_seed(SEED)
    };
    let error = ordeal.endure_also(async |cluster: &Cluster| happens(cluster, wrong).await);
    let error = error.await.err().context("nothing was noticed")?;
    let told = format!("{error:#}");
    let schedule = Schedule::new(SEED, false).to_string();
    ensure!(told.starts_with(&schedule), "{told}");
    let replay = "\nreplay: make chaos SEED=3 N=1 NETEM=no ENCAP=userspace";
    ensure!(told.contains(replay), "{told}");
    let what = match wrong {
        Wrong::AgentDies => "n1: agent ended by itself: signal: 9",
        Wrong::PacketsAreLost => "lost, and nothing touched the path",
        Wrong::SomethingStays => "not as before:\n+ n1: ",
    };
    ensure!(told.contains(what), "{told}");
    Ok(())
}

/// Proves that a replay is the same or none: where the kernel lacks netem, a schedule with it is
/// refused and not shortened; where it has it, the command asks for it.
#[podlab::test]
async fn a_schedule_with_netem_is_never_one_without() -> Result<()> {
    let here = Ordeal::of_seed(SEED);
    let has_netem = here.netem;
    let ordeal = Ordeal {
        netem: true,
        ..here
    };
    let error = ordeal
        .endure_also(async |_: &Cluster| bail!("enough"))
        .await;
    let told = format!("{:#}", error.err().context("nothing was told")?);
    let expected = match has_netem {
        true => "make chaos SEED=3 N=1 NETEM=yes ENCAP=",
        false => "netem was asked for, and the kernel has none",
    };
    ensure!(told.contains(expected), "{told}");
    Ok(())
}
