//! Nodes and pods that are stopped at the same time, and those where there is nothing to stop.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::process::{Process, Program};
use podlab::{Machine, Pod};
use podlab_scenarios::seed::{DEMO_W2, HTTP_PORT, TEST_TOOLS, WORKER_2};
use tokio::task::JoinSet;

use crate::world::{SOON, boot};

/// Requests that are under way at the same time.
const COUNT: usize = 5;

fn is_stopped(process: u32) -> Result<bool> {
    Ok(std::fs::read_to_string(format!("/proc/{process}/stat"))?.contains(") T "))
}

fn sleeper(on: &Machine) -> Result<(Process, u32)> {
    let process = on.spawn("sleep 600")?;
    let id = process.id().context("it runs")?;
    Ok((process, id))
}

/// Whether the server of a pod answers.
async fn answers(from: &Pod, pod: &Pod) -> bool {
    let asked = from.http_get(pod, HTTP_PORT, "/");
    let answer = tokio::time::timeout(Duration::from_millis(300), asked).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

/// Proves that a frozen pod answers nothing of what it is asked, that what was asked is all
/// answered when it goes on, and that its kernel takes connections all the same.
#[podlab::test]
async fn a_frozen_pod_answers_all_of_it_afterwards() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let fault = far.freeze().await?;
    let url = format!("http://{}:{HTTP_PORT}/", far.address());
    let mut asked = JoinSet::new();
    for _ in 0..COUNT {
        let arguments = [
            "-sS",
            "-m",
            "60",
            "-w",
            "\n%{http_code} %{time_connect}",
            &url,
        ];
        let curl = tools.spawn(Program::new("curl").args(arguments))?;
        asked.spawn(async move { curl.wait(4 * SOON).await });
    }
    let early = tokio::time::timeout(Duration::from_millis(500), asked.join_next()).await;
    ensure!(early.is_err(), "it answered: {early:?}");
    fault.heal().await?;
    let mut answered = 0;
    while let Some(output) = asked.join_next().await {
        let output = output??.success()?.stdout;
        ensure!(output.contains("\n200 "), "{output}");
        answered += 1;
    }
    assert_eq!(answered, COUNT);
    Ok(())
}

/// Proves that what two faults have stopped goes on when both are healed, whichever comes first,
/// and that only what is stopped by neither runs: a pod whose node hangs does not wake up because
/// the pod's own trouble is over.
#[podlab::test]
async fn a_pod_goes_on_when_it_and_its_node_are_healed() -> Result<()> {
    let cluster = boot("userspace").await?;
    let node = cluster.node(WORKER_2)?;
    let far = cluster.pod(DEMO_W2)?;
    let near = cluster
        .add_pod("near", |p| p.on(WORKER_2).address("192.168.2.77"))
        .await?;
    let (_of_pod, of_pod) = sleeper(&far)?;
    let (_of_node, of_node) = sleeper(&node)?;
    for pod_first in [true, false] {
        let pod = far.freeze().await?;
        let all = node.freeze().await?;
        ensure!(is_stopped(of_pod)? && is_stopped(of_node)?);
        ensure!(!answers(&near, &far).await, "both are frozen");
        if pod_first {
            pod.heal().await?;
            ensure!(is_stopped(of_pod)? && is_stopped(of_node)?);
            ensure!(!answers(&near, &far).await, "its node is frozen");
            all.heal().await?;
        } else {
            all.heal().await?;
            ensure!(is_stopped(of_pod)? && !is_stopped(of_node)?);
            ensure!(!answers(&near, &far).await, "it is frozen itself");
            pod.heal().await?;
        }
        ensure!(!is_stopped(of_pod)? && !is_stopped(of_node)?);
        near.http_get(&far, HTTP_PORT, "/").await?;
    }
    // One that begins while the node is frozen runs, and the pod's fault is its own.
    let all = node.freeze().await?;
    let (_new, new) = sleeper(&far)?;
    ensure!(!is_stopped(new)?);
    let pod = far.freeze().await?;
    ensure!(is_stopped(new)?);
    pod.heal().await?;
    ensure!(!is_stopped(new)? && is_stopped(of_pod)?);
    ensure!(!answers(&near, &far).await, "its node is frozen");
    all.heal().await?;
    near.http_get(&far, HTTP_PORT, "/").await?;
    Ok(())
}

/// Proves that to freeze where nothing runs, or what is frozen already, is an error and no fault
/// that a test would wait for in vain.
#[podlab::test]
async fn where_nothing_runs_there_is_nothing_to_freeze() -> Result<()> {
    let cluster = boot("userspace").await?;
    let node = cluster.node(WORKER_2)?;
    let empty = cluster
        .add_pod("empty", |p| p.on(WORKER_2).address("192.168.2.77"))
        .await?;
    let error = empty.freeze().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "freeze at empty would change nothing: nothing runs there"
    );
    let (_process, id) = sleeper(&empty)?;
    let all = node.freeze().await?;
    let error = empty.freeze().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "freeze at empty would change nothing: nothing runs there"
    );
    ensure!(is_stopped(id)?);
    all.heal().await?;
    ensure!(!is_stopped(id)?);
    empty.freeze().await?.heal().await?;
    let late = node.slow_datastore(Duration::ZERO).await.unwrap_err();
    ensure!(late.to_string().contains("would change nothing"), "{late}");
    ensure!(cluster.active_faults().is_empty());
    Ok(())
}
