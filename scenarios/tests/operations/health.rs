//! Health and metrics, as a service manager and a monitoring system ask for them.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::Result;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use podlab::process::Program;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab_scenarios::seed::WORKER_1;
use rstest::rstest;

use crate::program::{self, DATASTORE, SOON, answers, boot, boot_in, command, get, metric};

/// After this time without a turn the agent's loop counts as stuck.
const GRACE: Duration = Duration::from_secs(10);

/// If this fails, a monitoring system sees an agent that is not the one that runs.
#[rstest]
#[podlab::test]
async fn item_15_metrics_are_served_and_no_debug_paths(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot_in(mode, backend).await?;
    let node = cluster.node(WORKER_1)?;
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/", 404),
        ("/debug/pprof/", 404),
        ("/metrics/", 404),
    ] {
        let answer = get(&node, path).await?;
        assert_eq!(answer.status.as_u16(), status, "{path}: {answer:?}");
    }
    let agent = node.agent_status();
    let backend = format!("encapsulation{{backend=\"{}\"}}", agent.encapsulation);
    for (series, expected) in [
        ("routes", "6"),
        ("peers", "2"),
        ("pods", "3"),
        ("pods_waiting", "0"),
        ("ready", "1"),
        ("live", "1"),
        ("refusals_total", "0"),
        ("datastore_broken_files", "0"),
        ("changes_total{kind=\"route\"}", "6"),
        ("repairs_total{kind=\"route\"}", "0"),
        (backend.as_str(), "1"),
    ] {
        assert_eq!(metric(&node, series).await?, expected, "{series}");
    }
    Ok(())
}

/// If this fails, nobody learns that somebody else works against the agent.
#[rstest]
#[podlab::test]
async fn a_repair_is_counted_and_a_change_of_the_datastore_is_none(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_1)?;
    let before = node.routes().await?;
    let other = br#"{"address":"10.12.22.9/16","blocks":["192.168.9.0/24"]}"#;
    cluster
        .datastore()
        .write("nodes/k8s-worker-9.json", other)?;
    podlab::eventually::eventually("the new node's route is there", SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        let there = routes
            .iter()
            .any(|route| route.destination.to_string() == "192.168.9.0/24");
        there.then_some(()).ok_or_else(|| format!("{routes:?}"))
    })
    .await?;
    cluster.datastore().remove("nodes/k8s-worker-9.json")?;
    program::routes_are(&node, &before).await?;
    const REPAIRS: &str = "repairs_total{kind=\"route\"}";
    assert_eq!(metric(&node, REPAIRS).await?, "0");

    node.exec("ip route del 192.168.2.0/24").await?.success()?;
    podlab::eventually::eventually("one repair is counted", SOON, || async {
        match metric(&node, REPAIRS).await {
            Ok(value) if value == "1" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(node.routes().await?, before);
    Ok(())
}

/// If this fails, traffic is sent to a node whose network is not there, or a node is restarted
/// that only waits for its address.
#[rstest]
#[podlab::test]
async fn item_15_an_agent_whose_node_loses_its_address_is_live_and_not_ready(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot_in(mode, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let address = format!("{}/16 dev {}", node.address(), node.underlay());
    let change = format!("ip address del {address}");
    node.exec(change.as_str()).await?.success()?;
    let why = answers(&node, "/readyz", 503, SOON).await?;
    assert_eq!(why, "no interface has the node's address 10.12.22.2\n");
    assert_eq!(get(&node, "/livez").await?.status.as_u16(), 200);
    let change = format!("ip address add {address}");
    node.exec(change.as_str()).await?.success()?;
    answers(&node, "/readyz", 200, SOON).await?;
    Ok(())
}

/// If this fails, an agent that is started before its node's network gives up, or says that it is
/// ready when nothing works, or never notices that the address has come.
#[rstest]
#[podlab::test]
async fn item_15_an_agent_that_starts_before_its_address_is_ready_when_that_comes(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot_in(mode, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let (agent, wanted) = (program::path(&node)?, node.routes().await?);
    node.stop_agent().await?;
    command(&node, &agent, &["cleanup"]).await?.success()?;
    let address = format!("{}/16 dev {}", node.address(), node.underlay());
    let change = format!("ip address del {address}");
    node.exec(change.as_str()).await?.success()?;

    let start = Program::new(&agent)
        .args(["run", "--datastore", DATASTORE, "--node", WORKER_1])
        .args(["--encap", backend, "--serve", "127.0.0.1:9091"]);
    let _running = node.spawn(start)?;
    podlab::eventually::eventually("it says what it waits for", SOON, || async {
        let reply = get(&node, "/readyz").await.map_err(|e| e.to_string())?;
        let text = reply.text().into_owned();
        let waits = text == "no interface has the node's address 10.12.22.2\n";
        (waits && reply.status.as_u16() == 503)
            .then_some(())
            .ok_or(text)
    })
    .await?;
    assert_eq!(get(&node, "/livez").await?.status.as_u16(), 200);
    assert_eq!(metric(&node, "ready").await?, "0");
    let change = format!("ip address add {address}; ip route add default via 10.12.0.1");
    let change = Program::new("sh").args(["-c", &change]);
    node.exec(change).await?.success()?;
    answers(&node, "/readyz", 200, SOON).await?;
    program::routes_are(&node, &wanted).await?;
    assert_eq!(program::ttl(&cluster).await?, 62);
    Ok(())
}

/// If this fails, an agent that is stuck for good passes for a healthy one. Here it is stuck as
/// it happens in earnest: whoever reads its log has stopped reading, and the pipe is full.
#[rstest]
#[podlab::test]
async fn item_15_a_loop_that_stalls_is_neither_live_nor_ready(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_1)?;
    let agent = program::path(&node)?;
    node.stop_agent().await?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    mkfifo(&log, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // Opened for both directions, a named pipe is open at once.
    let line = r#"log=$1; shift; exec "$@" 2<>"$log""#;
    let arguments = ["run", "--datastore", DATASTORE, "--node", WORKER_1];
    let start = Program::new("sh")
        .args(["-c", line, "sh"])
        .arg(&log)
        .arg(&agent)
        .args(arguments)
        .args(["--serve", "127.0.0.1:9091"]);
    let _running = node.spawn(start)?;
    answers(&node, "/readyz", 200, SOON).await?;

    let mut pipe = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&log)?;
    fill(&mut pipe)?;
    assert_eq!(get(&node, "/livez").await?.status.as_u16(), 200, "idle");
    let other = br#"{"address":"10.12.22.9/16","blocks":["192.168.9.0/24"]}"#;
    cluster
        .datastore()
        .write("nodes/k8s-worker-9.json", other)?;
    let why = answers(&node, "/livez", 503, GRACE + SOON).await?;
    assert!(why.contains("the agent's loop is overdue by"), "{why}");
    assert_eq!(get(&node, "/readyz").await?.status.as_u16(), 503);
    assert_eq!(metric(&node, "live").await?, "0");

    drain(&mut pipe)?;
    answers(&node, "/readyz", 200, SOON).await?;
    Ok(())
}

fn fill(pipe: &mut File) -> Result<()> {
    // The last room is smaller than a page.
    for size in [4096, 1] {
        let bytes = vec![b'.'; size];
        while would_not_block(pipe.write(&bytes))? {}
    }
    Ok(())
}

fn drain(pipe: &mut File) -> Result<()> {
    let mut bytes = [0; 4096];
    while would_not_block(pipe.read(&mut bytes))? {}
    Ok(())
}

fn would_not_block(done: std::io::Result<usize>) -> Result<bool> {
    match done {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}
