//! A datastore that one node sees late, broken or not at all, and a disk that is full.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use podlab::process::Program;
use podlab::{Cluster, Node, Pod};
use podlab_scenarios::seed::{DEMO_W2, MASTER, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::world::{
    SOON, all, boot, in_one_piece, pings, pings_with, reaches, same, same_soon, state,
};

const COUNT: u32 = 20;
/// A block that comes while the datastore is broken for one node.
const NEW: &str = "192.168.77.0/24";

async fn has_route(node: &Node, to: &str, wanted: bool) -> Result<()> {
    let what = format!("{} has a route to {to}: {wanted}", node.name());
    podlab::eventually::eventually(what, SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        let mut routes = routes.iter().map(|route| route.destination.to_string());
        match routes.any(|route| route == to) == wanted {
            true => Ok(()),
            false => Err("not yet"),
        }
        .map_err(str::to_owned)
    })
    .await?;
    Ok(())
}

/// A block with a pod in it that comes on the master; the pod is reached from `WORKER_2`.
async fn new_block(cluster: &Cluster) -> Result<Pod> {
    let master = cluster.node(MASTER)?;
    master.add_block(NEW).await?;
    has_route(&cluster.node(WORKER_2)?, NEW, true).await?;
    let new = cluster.add_pod("new", |p| p.on(MASTER).address("192.168.77.5"));
    let new = new.await?;
    has_route(&master, "192.168.77.5/32", true).await?;
    let far = cluster.pod(DEMO_W2)?;
    assert_eq!(pings(&far, new.address(), COUNT).await?, all(COUNT));
    Ok(new)
}

async fn old_block(cluster: &Cluster) -> Result<()> {
    cluster.remove_pod("new").await?;
    cluster.node(MASTER)?.remove_block(NEW).await?;
    Ok(())
}

/// What a node that hears nothing of a change must not do, and the others must: its pods send
/// nothing to the new block, and lose nothing on the ways that it knows.
async fn changes_pass_by(cluster: &Cluster, node: &Node) -> Result<()> {
    let new = new_block(cluster).await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    assert_eq!(pings(&tools, new.address(), COUNT).await?, [].into());
    has_route(node, NEW, false).await
}

/// The node learns of it all, of the new block first, and then that it is gone.
async fn catches_up(cluster: &Cluster, node: &Node) -> Result<()> {
    has_route(node, NEW, true).await?;
    let (tools, new) = (cluster.pod(TEST_TOOLS)?, cluster.pod("new")?);
    assert_eq!(pings(&tools, new.address(), COUNT).await?, all(COUNT));
    old_block(cluster).await?;
    has_route(node, NEW, false).await
}

/// Proves that a datastore that is away for one node costs it no packet, that the others go on
/// without it, and that it catches up when the datastore is back; with an agent that was there all
/// the time, and with one that was killed and is started again when it is back.
#[rstest]
#[podlab::test]
async fn a_node_without_datastore_keeps_what_it_knows(
    #[values(false, true)] killed: bool,
) -> Result<()> {
    let cluster = boot("ebpf").await?;
    let node = cluster.node(WORKER_1)?;
    let before = state(&cluster).await?;
    let fault = node.lose_datastore().await?;
    changes_pass_by(&cluster, &node).await?;
    let log = podlab::eventually::eventually("the agent complains", SOON, || async {
        let log = node.agent_log().map_err(|error| error.to_string())?;
        match log.contains("nodes") && log.contains("symbolic links") {
            true => Ok(()),
            false => Err(log),
        }
    });
    log.await?;
    if killed {
        node.kill_agent().await?;
        let error = node.start_agent().await.unwrap_err().to_string();
        ensure!(error.contains("symbolic links"), "{error}");
        let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
        assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    }
    fault.heal().await?;
    if killed {
        node.start_agent().await?;
    }
    // And from here on it hears of everything again.
    catches_up(&cluster, &node).await?;
    same_soon(&cluster, &before).await
}

/// Proves that files that are broken for one node change nothing there, and that it follows again
/// when they are mended, without a restart.
#[rstest]
#[podlab::test]
async fn broken_files_keep_the_last_good_state(#[values(1, 2, 3, 4)] seed: u64) -> Result<()> {
    let cluster = boot("ebpf").await?;
    let node = cluster.node(WORKER_1)?;
    let before = state(&cluster).await?;
    // One pool, three nodes, four endpoints.
    let fault = node.corrupt_datastore(seed, 8).await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let complains = podlab::eventually::eventually("the agent complains", SOON, || async {
        let log = node.agent_log().map_err(|error| error.to_string())?;
        let files = log
            .lines()
            .filter(|line| line.contains("last good content"));
        match files.count() >= 8 {
            true => Ok(()),
            false => Err(log),
        }
    });
    complains.await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    changes_pass_by(&cluster, &node).await?;
    fault.heal().await?;
    catches_up(&cluster, &node).await?;
    same_soon(&cluster, &before).await?;
    let error = node.corrupt_datastore(seed, 9).await.unwrap_err();
    ensure!(error.to_string().contains("there are 8 files"), "{error}");
    Ok(())
}

/// Proves that a node with a slow datastore hears of what comes and of what goes, and not before
/// its time; also one whose agent was started meanwhile.
#[rstest]
#[podlab::test]
async fn a_slow_datastore_is_late_by_its_delay(
    #[values(false, true)] restarted: bool,
) -> Result<()> {
    const DELAY: Duration = Duration::from_millis(700);
    let cluster = boot("ebpf").await?;
    let node = cluster.node(WORKER_1)?;
    let before = state(&cluster).await?;
    let fault = node.slow_datastore(DELAY).await?;
    if restarted {
        node.restart_agent().await?;
    }
    for wanted in [true, false] {
        let begin = Instant::now();
        match wanted {
            true => cluster.node(MASTER)?.add_block(NEW).await?,
            false => cluster.node(MASTER)?.remove_block(NEW).await?,
        }
        has_route(&cluster.node(WORKER_2)?, NEW, wanted).await?;
        has_route(&node, NEW, wanted).await?;
        let took = begin.elapsed();
        ensure!(took >= DELAY, "{took:?}");
    }
    // A file that goes: the node's own pod.
    cluster
        .add_pod("late", |p| p.on(WORKER_1).address("192.168.1.77"))
        .await?;
    has_route(&node, "192.168.1.77/32", true).await?;
    fault.heal().await?;
    cluster.node(MASTER)?.add_block(NEW).await?;
    has_route(&node, NEW, true).await?;
    cluster.node(MASTER)?.remove_block(NEW).await?;
    cluster.remove_pod("late").await?;
    has_route(&node, NEW, false).await?;
    same_soon(&cluster, &before).await
}

/// Proves what a slow datastore costs: every packet to what the node has not heard of, and none of
/// the others; and that what was under way is there at once when the datastore is quick again.
#[podlab::test]
async fn what_a_slow_datastore_hides_is_lost_until_it_is_healed() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let node = cluster.node(WORKER_1)?;
    let before = state(&cluster).await?;
    let fault = node.slow_datastore(Duration::from_secs(600)).await?;
    changes_pass_by(&cluster, &node).await?;
    fault.heal().await?;
    catches_up(&cluster, &node).await?;
    same_soon(&cluster, &before).await
}

/// Proves that an agent whose disk is full keeps the network and says what it cannot write, and
/// that pods get the right MTU again when there is room: before that, what is as long as the old
/// MTU does not fit, and afterwards it does.
#[podlab::test]
async fn a_full_disk_costs_no_packet() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let node = cluster.node(WORKER_1)?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let fault = node.fill_agent_disk().await?;
    let write = node.exec("touch /run/podlab/agent/other").await?;
    let more = node.exec("cp /bin/true /run/podlab/agent/more").await?;
    ensure!(!more.status.success(), "{write:?}, {more:?}");
    cluster
        .set_pool("default-pool", |pool| pool.tunnel_mtu(1300))
        .await?;
    let complains = podlab::eventually::eventually("the agent complains", SOON, || async {
        let log = node.agent_log().map_err(|error| error.to_string())?;
        match log.contains("No space left on device") {
            true => Ok(()),
            false => Err(log),
        }
    });
    complains.await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    let new = |name: &'static str, address: &'static str| {
        cluster.add_pod(name, move |p| p.on(WORKER_1).address(address))
    };
    let mtu = async |name: &str| -> Result<u32> {
        let links = cluster.pod(name)?.links().await?;
        Ok(links.iter().find(|l| l.name == "eth0").unwrap().mtu)
    };
    let early = new("early", "192.168.1.77").await?;
    assert_eq!(mtu("early").await?, 1440);
    fault.heal().await?;
    let file = podlab::eventually::eventually("the MTU is told", SOON, || async {
        let file = node.exec("cat /run/podlab/agent/mtu").await;
        match file.map_err(|error| error.to_string())?.stdout.trim() {
            "1300" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    file.await?;
    let late = new("late", "192.168.1.78").await?;
    assert_eq!(mtu("late").await?, 1300);
    // 1300 bytes in one piece, and 1440 not, whatever the pod's own device would take.
    for pod in [&early, &late] {
        let sized = async |size: usize| {
            reaches(pod, far.address()).await?;
            pings_with(pod, far.address(), COUNT, in_one_piece(size)).await
        };
        assert_eq!(sized(1300).await?, all(COUNT));
        assert_eq!(sized(1440).await?, [].into());
    }
    Ok(())
}

/// Proves that nobody on the node ever sees half of a view: an agent would take away what is not
/// there yet. A loop counts the files as fast as it can while views come and go.
#[podlab::test]
async fn a_view_is_whole_when_it_is_seen() -> Result<()> {
    const COUNT_FILES: &str = "while :; do \
         set -- /run/podlab/datastore/nodes/*.json; \
         [ $# = \"$last\" ] || echo $#; last=$#; \
         done";
    let cluster = boot("userspace").await?;
    let node = cluster.node(WORKER_1)?;
    let mut counting = node.spawn(Program::new("sh").args(["-c", COUNT_FILES]))?;
    counting.wait_for_line(|line| line == "3", SOON).await?;
    for _ in 0..50 {
        let fault = node.slow_datastore(Duration::from_secs(60)).await?;
        fault.heal().await?;
    }
    let counted = counting.stop(Signal::SIGTERM).await?;
    assert_eq!(counted.stdout, "3\n");
    Ok(())
}

/// Proves that the node's mounts are as before, whatever was laid over them.
#[podlab::test]
async fn views_and_disks_leave_no_mounts() -> Result<()> {
    let cluster = boot("userspace").await?;
    let node = cluster.node(WORKER_1)?;
    let before = state(&cluster).await?;
    let long = Duration::from_secs(60);
    for fault in [node.lose_datastore().await?, node.fill_agent_disk().await?] {
        ensure!(same(&before, &state(&cluster).await?).is_err());
        ensure!(node.slow_datastore(long).await.is_err() || fault.name() == "disk full");
        fault.heal().await?;
    }
    cluster.heal_all().await?;
    node.slow_datastore(long).await?;
    // A crash takes views away, and healing finds nothing to do.
    node.fill_agent_disk().await?;
    node.crash().await?.heal().await?;
    cluster.heal_all().await?;
    let mounts = |lines: Vec<String>| -> Vec<String> {
        let mounts = lines.into_iter().filter(|line| line.contains("tmpfs"));
        mounts.collect()
    };
    same(&mounts(before), &mounts(state(&cluster).await?))
}
