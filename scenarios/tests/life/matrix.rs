//! Every phase of an agent's life, and every way to disturb it there.

use anyhow::{Result, bail};
use podlab::spec::Encapsulation::{Always, CrossSubnet};
use podlab_scenarios::flow::Flow;
use podlab_scenarios::seed::{DEMO_W2, MASTER, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::connection::Connection;
use crate::modes::{is_in, seed_in};
use crate::phase::{Disturbance, Phase, Subject};

/// How often a phase is tried to be met: some last for less than a look takes.
const ATTEMPTS: u32 = 30;

/// Proves that there is no moment at which an agent must not be killed, halted or stopped: where the
/// kernel carries the packets none is lost, whatever it was at, and its next life finishes what the
/// former one has begun. With `userspace` the agent is the one that carries, and the gap is printed.
/// A connection goes on in all cases.
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
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let mut connection = Connection::start(&tools, &far).await?;
    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;
    let mut subject = Subject::new(&cluster, &node);
    let mut met = None;
    for attempt in 1..=ATTEMPTS {
        if subject.disturb_in(phase, how).await? {
            met = Some(attempt);
            break;
        }
        subject.recover().await?;
    }
    let Some(attempt) = met else {
        bail!("{ATTEMPTS} times the agent was not {phase:?} when the signal came");
    };
    println!("met {phase:?} at attempt {attempt}");
    subject.a_while().await?;
    node.start_agent().await?;
    let mode = match phase {
        Phase::ChangingMode => CrossSubnet,
        _ => Always,
    };
    for name in [WORKER_1, WORKER_2, MASTER] {
        is_in(&cluster.node(name)?, mode).await?;
    }
    subject.has_all_routes(phase, mode).await?;
    subject.a_while().await?;
    connection.goes_on().await?;
    if backend != "userspace" {
        return Flow::none_lost(flows).await;
    }
    for flow in flows {
        // Fails when there are no answers any more.
        flow.count().await?;
    }
    Ok(())
}
