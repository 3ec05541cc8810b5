//! An agent that goes and comes back while pods talk.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use podlab::agent::PodlabAgent;
use podlab::process::Program;
use podlab::{Cluster, Node};
use podlab_scenarios::backend;
use podlab_scenarios::flow::Flow;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, WORKER_1};
use rstest::rstest;

use crate::agents::{Switch, binary, boot};

/// Long: with every processor taken the kernel's lock for routes may be out of an agent's reach for
/// seconds. What must not be lost meanwhile is another matter.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How an agent goes.
#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    Stopped,
}

impl End {
    async fn of(self, node: &Node) -> Result<(), podlab::Error> {
        match self {
            End::Killed => node.kill_agent().await,
            End::Stopped => node.stop_agent().await,
        }
    }
}

/// Lets some pings of the flows pass: as many as one after the other take on another way.
async fn a_while(cluster: &Cluster) -> Result<()> {
    let (from, to) = (cluster.node(WORKER_1)?, cluster.pod(TEST_TOOLS)?);
    for _ in 0..100 {
        from.ping(&to).await?;
    }
    Ok(())
}

/// Proves that the network does not need the agent: where the kernel carries the packets, none of
/// a thousand a second is lost while the agent is killed or stopped, is away and comes back. With
/// `userspace` the agent is the one that carries: what that costs is printed, and it is over when
/// the agent is back.
#[rstest]
#[podlab::test]
async fn nothing_is_lost_while_the_agent_is_away(
    #[values(End::Killed, End::Stopped)] end: End,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(seed::spec(), backend).await?;
    let node = cluster.node(WORKER_1)?;
    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;
    for _ in 0..5 {
        end.of(&node).await?;
        a_while(&cluster).await?;
        node.start_agent().await?;
        a_while(&cluster).await?;
    }
    if backend != "userspace" {
        return Flow::none_lost(flows).await;
    }
    for flow in flows {
        let losses = flow.count().await?;
        ensure!(losses.lost() > 0, "the agent did not carry: {losses}");
    }
    Ok(())
}

/// Proves that an upgrade is no event for the pods: the next agent is another file.
#[rstest]
#[podlab::test]
async fn an_upgrade_loses_nothing(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let switch = Switch::new(backend);
    let cluster = backend::boot(seed::spec(), switch.clone(), backend).await?;
    let node = cluster.node(WORKER_1)?;
    let old = binary(&node)?;
    let folder = tempfile::tempdir()?;
    let new = folder.path().join("podlab-agent-next");
    std::fs::copy(&old, &new)?;
    let routes = node.routes().await?;
    switch.set(PodlabAgent::with_encapsulation(backend).binary(&new));

    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;
    node.stop_agent().await?;
    let status = node.start_agent().await?;
    assert_eq!(status.encapsulation, backend);
    assert_eq!(binary(&node)?, new);
    assert_eq!(node.routes().await?, routes);
    a_while(&cluster).await?;
    match backend {
        "userspace" => {
            for flow in flows {
                flow.count().await?;
            }
            Ok(())
        }
        _ => Flow::none_lost(flows).await,
    }
}

/// Proves that a new life changes nothing where nothing has to be changed: not even for a moment
/// is an address, a route or the device gone, which would break connections that nobody tests.
#[rstest]
#[podlab::test]
async fn a_restart_touches_neither_addresses_nor_routes(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const OTHER: &str = "192.0.2.1";
    const SHORT: Duration = Duration::from_millis(100);
    let cluster = boot(seed::spec(), backend).await?;
    let node = cluster.node(WORKER_1)?;
    let mut monitor = node.spawn(Program::new("ip").args(["-4", "monitor", "address", "route"]))?;
    // It listens when it has told a change.
    let mut listens = false;
    for _ in 0..100 {
        for change in ["add", "del"] {
            let change = format!("ip address {change} {OTHER}/32 dev lo");
            node.exec(change.as_str()).await?.success()?;
        }
        let told = monitor.wait_for_line(|line| line.contains(OTHER), SHORT);
        listens = told.await.is_ok();
        if listens {
            break;
        }
    }
    ensure!(listens, "ip monitor tells nothing");
    let before = (node.links().await?, node.routes().await?);
    node.kill_agent().await?;
    node.start_agent().await?;
    assert_eq!((node.links().await?, node.routes().await?), before);
    let told = monitor.stop(Signal::SIGINT).await?.stdout;
    let of_the_restart: Vec<_> = told.lines().filter(|l| !l.contains("192.0.2.1")).collect();
    // The lines that belong to the address say how long it is valid.
    let changes = of_the_restart
        .iter()
        .filter(|line| !line.contains("valid_lft"));
    assert_eq!(changes.count(), 0, "{told}");
    Ok(())
}
