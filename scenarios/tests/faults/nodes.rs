//! Nodes that freeze, crash and come back, agents that hang, die or come late.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::process::Program;
use podlab::{Cluster, Error, Node};
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, DEMO, DEMO_W2, HTTP_PORT, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::world::{SOON, all, boot, pings, reaches, same, same_soon, state};

const COUNT: u32 = 20;

/// Waits until pods of the two workers reach each other.
async fn reach(cluster: &Cluster) -> Result<()> {
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    reaches(&tools, far.address()).await
}

/// Waits until a node sends to pods by way of this address. That pods reach each other says nothing
/// while a node's address changes: a backend that does not ask the kernel what is local goes on with
/// the old one on both sides until their agents have heard of it, and only then is there a moment in
/// which one has and the other has not.
async fn sends_by(node: &Node, address: Ipv4Addr) -> Result<()> {
    let what = format!("{} sends by way of {address}", node.name());
    podlab::eventually::eventually(what, SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        let mut gateways = routes.iter().map(|route| route.gateway);
        match gateways.any(|gateway| gateway == Some(address)) {
            true => Ok(()),
            false => Err(format!("{routes:?}")),
        }
    })
    .await?;
    Ok(())
}

/// Proves that a node can crash, with all that runs on it, and come back as the same node: its
/// neighbours lose exactly what they send meanwhile, and afterwards nothing tells the two lives
/// apart.
#[rstest]
#[podlab::test]
async fn a_node_crashes_and_comes_back_as_the_same(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_2)?;
    let (tools, far, near) = (
        cluster.pod(TEST_TOOLS)?,
        cluster.pod(DEMO_W2)?,
        cluster.pod(DEMO)?,
    );
    reach(&cluster).await?;
    let before = state(&cluster).await?;
    let left = far.spawn("sleep 600")?;
    let (left, agent) = (left.id().context("it runs")?, node.agent_id().unwrap());

    let fault = node.crash().await?;
    for process in [left, agent] {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        ensure!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
    for error in [
        far.ping(&tools).await.unwrap_err(),
        node.links().await.unwrap_err(),
        node.start_agent().await.unwrap_err(),
        node.crash().await.unwrap_err(),
    ] {
        ensure!(
            matches!(error, Error::Crashed { .. }) || error.to_string().contains("already"),
            "{error}"
        );
    }
    assert_eq!(pings(&tools, far.address(), COUNT).await?, [].into());
    assert_eq!(pings(&tools, near.address(), COUNT).await?, all(COUNT));
    let ports = cluster.fabric().links().await?;
    ensure!(ports.iter().all(|port| port.name != WORKER_2));

    fault.heal().await?;
    reach(&cluster).await?;
    same_soon(&cluster, &before).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    let page = tools.http_get(&far, HTTP_PORT, "/").await?;
    assert_eq!(page.text(), "<p>Hi from c2c-network-demo-w2</p>");
    let hostname = far.exec("hostname").await?.success()?.stdout;
    assert_eq!(hostname.trim(), DEMO_W2);

    // And again, by the cluster as a whole.
    let agent = node.agent_id();
    node.crash().await?;
    cluster.heal_all().await?;
    ensure!(node.agent_id() != agent);
    reach(&cluster).await
}

/// Proves that a cluster can be changed while a node is gone, and that the node comes back into
/// the cluster as it is then; one that was removed meanwhile stays away.
#[podlab::test]
async fn a_cluster_goes_on_without_a_crashed_node() -> Result<()> {
    let cluster = boot("userspace").await?;
    let node = cluster.node(WORKER_2)?;
    let fault = node.crash().await?;
    cluster
        .add_pod("late", |p| p.on(WORKER_1).address("192.168.1.77"))
        .await?;
    let error = cluster
        .add_pod("lost", |p| p.on(WORKER_2).address("192.168.2.77"))
        .await
        .map(drop)
        .unwrap_err();
    ensure!(matches!(error, Error::Crashed { .. }), "{error}");
    fault.heal().await?;
    let (late, far) = (cluster.pod("late")?, cluster.pod(DEMO_W2)?);
    podlab::eventually::eventually("the new pod is reached", SOON, || async {
        far.ping(&late).await.map_err(|error| error.to_string())
    })
    .await?;

    let fault = node.crash().await?;
    cluster.remove_node(WORKER_2).await?;
    fault.heal().await?;
    ensure!(cluster.node(WORKER_2).is_err());
    cluster.shutdown().await?;
    Ok(())
}

/// Proves that on a frozen node nothing runs, servers of its pods included, while its kernel still
/// forwards; and that what was asked meanwhile is answered afterwards.
#[podlab::test]
async fn a_frozen_node_forwards_and_does_not_answer() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let node = cluster.node(WORKER_2)?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    reach(&cluster).await?;
    let before = state(&cluster).await?;
    let asleep = far.spawn("sleep 600")?;
    let script = "trap '' TERM; while :; do sleep 0.01; done";
    let busy = node.spawn(Program::new("sh").args(["-c", script]))?;

    let fault = node.freeze().await?;
    let processes = [asleep.id(), busy.id(), node.agent_id()].map(Option::unwrap);
    let stat = |process: u32| std::fs::read_to_string(format!("/proc/{process}/stat"));
    for process in processes {
        let stat = stat(process)?;
        ensure!(stat.contains(") T "), "{stat}");
    }
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    let url = format!("http://{}:{HTTP_PORT}/", far.address());
    let mut curl = tools.spawn(Program::new("curl").args(["-sS", "-m", "60", &url]))?;
    let silent = curl
        .wait_for_line(|_| true, Duration::from_millis(300))
        .await;
    ensure!(silent.is_err(), "it answered");
    ensure!(node.freeze_agent().await.is_err(), "it is frozen already");

    fault.heal().await?;
    let page = curl.wait(SOON).await?.success()?.stdout;
    assert_eq!(page, "<p>Hi from c2c-network-demo-w2</p>");
    for process in processes {
        let stat = stat(process)?;
        ensure!(!stat.contains(") T "), "{stat}");
    }
    same(&before, &state(&cluster).await?)
}

/// Proves that a frozen pod is one pod: its neighbour on the same node answers.
#[podlab::test]
async fn a_frozen_pod_is_alone() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, one, other) = (
        cluster.pod(TEST_TOOLS)?,
        cluster.pod(DEMO)?,
        cluster.pod(DEMO_W2)?,
    );
    let fault = one.freeze().await?;
    let asked = tools.http_get(&one, HTTP_PORT, "/");
    let silent = tokio::time::timeout(Duration::from_millis(300), asked).await;
    ensure!(silent.is_err(), "it answered");
    tools.http_get(&other, HTTP_PORT, "/").await?;
    fault.heal().await?;
    tools.http_get(&one, HTTP_PORT, "/").await?;
    Ok(())
}

/// Proves what a hanging agent costs: nothing where the kernel carries the packets, all of them
/// where the agent does; and that it goes on where it was.
#[rstest]
#[podlab::test]
async fn a_frozen_agent_costs_what_it_carries(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_1)?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    reach(&cluster).await?;
    let before = state(&cluster).await?;
    let fault = node.freeze_agent().await?;
    let got = pings(&tools, far.address(), COUNT).await?;
    match backend {
        "userspace" => assert_eq!(got, [].into()),
        _ => assert_eq!(got, all(COUNT)),
    }
    // What changes meanwhile it learns afterwards.
    cluster
        .add_pod("late", |p| p.on(WORKER_1).address("192.168.1.77"))
        .await?;
    ensure!(same(&before, &state(&cluster).await?).is_err());
    fault.heal().await?;
    let late = cluster.pod("late")?;
    podlab::eventually::eventually("the new pod is reached", SOON, || async {
        far.ping(&late).await.map_err(|error| error.to_string())
    })
    .await?;
    cluster.remove_pod("late").await?;
    same_soon(&cluster, &before).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that an agent that was killed, or stopped and comes late, stays away until it is healed,
/// and is not started twice.
#[rstest]
#[podlab::test]
async fn an_agent_stays_away_until_it_is_healed(
    #[values("killed", "stopped")] end: &str,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let away = async |node: &Node| match end {
        "killed" => node.crash_agent().await,
        _ => node.delay_agent().await,
    };
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_1)?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    reach(&cluster).await?;
    let before = state(&cluster).await?;
    let fault = away(&node).await?;
    ensure!(!node.is_agent_running());
    let got = pings(&tools, far.address(), COUNT).await?;
    match backend {
        "userspace" => assert_eq!(got, [].into()),
        _ => assert_eq!(got, all(COUNT)),
    }
    let error = away(&node).await.unwrap_err().to_string();
    ensure!(error.contains("is there already"), "{error}");
    fault.heal().await?;
    same(&before, &state(&cluster).await?)?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));

    let fault = away(&node).await?;
    node.start_agent().await?;
    let agent = node.agent_id();
    fault.heal().await?;
    assert_eq!(node.agent_id(), agent);
    Ok(())
}

/// Proves that an agent that comes late is missed by its own pods only, and only until it comes.
#[rstest]
#[podlab::test]
async fn an_agent_that_comes_late_is_missed_until_then(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let mut spec = seed::spec();
    for node in &mut spec.nodes {
        node.agent_later = node.name == WORKER_2;
    }
    let agent = podlab::agent::PodlabAgent::with_encapsulation(backend);
    let cluster = backend::boot(spec, agent, backend).await?;
    let (tools, near, far) = (
        cluster.pod(TEST_TOOLS)?,
        cluster.pod(DEMO)?,
        cluster.pod(DEMO_W2)?,
    );
    assert_eq!(cluster.active_faults().len(), 1);
    ensure!(!cluster.node(WORKER_2)?.is_agent_running());
    assert_eq!(pings(&tools, near.address(), COUNT).await?, all(COUNT));
    assert_eq!(pings(&tools, far.address(), COUNT).await?, [].into());
    cluster.heal_all().await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that a node that gets another address is reached there, and at its old one again once
/// that is healed.
#[rstest]
#[podlab::test]
async fn an_address_changes_and_changes_back(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_2)?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    reach(&cluster).await?;
    let (before, old) = (state(&cluster).await?, node.address());
    let near = cluster.node(WORKER_1)?;
    let fault = node.change_address("10.12.22.99/16").await?;
    sends_by(&near, node.address()).await?;
    reach(&cluster).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    assert_eq!(pings(&near, old, COUNT).await?, [].into());
    fault.heal().await?;
    assert_eq!(node.address(), old);
    same_soon(&cluster, &before).await?;
    reach(&cluster).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    let error = node.change_address("10.12.22.3/16").await.unwrap_err();
    ensure!(
        error.to_string().contains("would change nothing"),
        "{error}"
    );
    Ok(())
}
