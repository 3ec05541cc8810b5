//! Clusters that live side by side.

use std::time::Duration;

use anyhow::Result;
use podlab::Cluster;
use podlab::eventually::eventually;
use podlab::probe::icmp::PingOptions;
use podlab::process::Program;
use podlab_scenarios::seed::{self, DEMO_W2, HTTP_PORT, SERVER, TEST_TOOLS, WORKER_2};

/// Proves that two copies of one cluster, same names and same addresses, run at the same time in
/// one process: each is whole, and neither hears a word of the other.
#[podlab::test]
async fn two_copies_in_one_process_do_not_notice_each_other() -> Result<()> {
    let (one, two) = tokio::try_join!(seed::boot(), seed::boot())?;
    for cluster in [&one, &two] {
        let reply = cluster
            .pod(TEST_TOOLS)?
            .ping(&cluster.pod(DEMO_W2)?)
            .await?;
        assert_eq!(reply.ttl, 62);
    }
    ask(&one).await?;
    assert_eq!(requests(&one)?, 1);
    assert_eq!(requests(&two)?, 0, "the request reached the other cluster");

    // What breaks one leaves the other whole.
    one.node(WORKER_2)?
        .set_link_up(seed::UNDERLAY, false)
        .await?;
    let impatient = PingOptions {
        timeout: Duration::from_millis(300),
        ..PingOptions::default()
    };
    let (from, to) = (one.pod(TEST_TOOLS)?, one.pod(DEMO_W2)?);
    assert!(from.ping_with(&to, &impatient).await.is_err());
    drop((from, to));
    ask(&two).await?;
    drop(one);
    ask(&two).await?;
    assert_eq!(requests(&two)?, 2);
    Ok(())
}

/// Proves that a handle on a pod keeps its cluster alive, so that a helper function can return
/// one.
#[podlab::test]
async fn a_handle_keeps_its_cluster() -> Result<()> {
    let (from, to) = {
        let cluster = seed::boot().await?;
        (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?)
    };
    assert_eq!(from.ping(&to).await?.ttl, 62);
    Ok(())
}

/// Proves that a dropped cluster takes everything with it that ran in it, also a daemon that has
/// left its parent and its session.
#[podlab::test]
async fn a_dropped_cluster_leaves_no_process() -> Result<()> {
    let cluster = seed::boot().await?;
    let pod = cluster.pod(TEST_TOOLS)?;
    let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $!";
    let shell = pod
        .exec(Program::new("sh").args(["-c", script]))
        .await?
        .success()?;
    let daemon = format!("/proc/{}/cmdline", shell.stdout.trim());
    // Between fork and exec, and in the middle of an exec, a process has no command line.
    eventually("the daemon runs", Duration::from_secs(5), || async {
        match std::fs::read(&daemon) {
            Ok(line) if line.starts_with(b"sleep") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    drop(pod);
    drop(cluster);
    eventually("the daemon is gone", Duration::from_secs(5), || async {
        // A killed process has no command line, also before it is reaped.
        match std::fs::read(&daemon) {
            Ok(line) if !line.is_empty() => Err("it runs still"),
            _ => Ok(()),
        }
    })
    .await?;
    Ok(())
}

async fn ask(cluster: &Cluster) -> Result<()> {
    let reply = cluster
        .pod(TEST_TOOLS)?
        .http_get(&cluster.pod(DEMO_W2)?, HTTP_PORT, "/")
        .await?;
    anyhow::ensure!(reply.status == 200, "status {}", reply.status);
    Ok(())
}

fn requests(cluster: &Cluster) -> Result<usize> {
    let server = cluster.pod(DEMO_W2)?.container(SERVER)?;
    Ok(server
        .http_server()
        .expect("the container serves HTTP")
        .requests()
        .len())
}
