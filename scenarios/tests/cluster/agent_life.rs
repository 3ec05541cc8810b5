//! The agent while things happen to it: broken files, crashes, restarts.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use podlab::agent::{AgentError, PodlabAgent};
use podlab::eventually::eventually;
use podlab::process::Program;
use podlab::{Cluster, Error, Node};
use podlab_scenarios::backend as backends;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

const SOON: Duration = Duration::from_secs(5);

async fn ttl(cluster: &Cluster) -> Result<u8> {
    Ok(cluster
        .pod(TEST_TOOLS)?
        .ping(&cluster.pod(DEMO_W2)?)
        .await?
        .ttl)
}

async fn log_says(node: &Node, words: &[&str]) -> Result<()> {
    let what = format!("the agent on {} logs {words:?}", node.name());
    eventually(what, SOON, || async {
        let log = node.agent_log().map_err(|error| error.to_string())?;
        match log
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
        {
            true => Ok(()),
            false => Err(log),
        }
    })
    .await?;
    Ok(())
}

/// Waits until the destinations of a node's routes are as wanted.
async fn destinations(node: &Node, wanted: impl Fn(&BTreeSet<String>) -> bool) -> Result<()> {
    eventually("the routes follow the datastore", SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        let now = routes
            .iter()
            .map(|route| route.destination.to_string())
            .collect();
        if wanted(&now) {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await?;
    Ok(())
}

/// Proves that a datastore file that was cut, garbled or filled with nonsense never stops a
/// running agent: it keeps the last good state, says which file is bad, and follows again when
/// the file is mended.
#[rstest]
#[case::cut_in_half(r#"{"address":"10.12.22.3/16","blo"#)]
#[case::no_address(r#"{"address":"nowhere","blocks":[]}"#)]
#[case::empty("")]
#[podlab::test]
async fn a_bad_file_keeps_the_last_good_state(#[case] bad: &str) -> Result<()> {
    const FILE: &str = "nodes/k8s-worker-2.json";
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let before = node.routes().await?;
    let good = cluster.datastore().read(FILE)?;

    cluster.datastore().write(FILE, bad.as_bytes())?;
    log_says(&node, &["ERROR", FILE]).await?;
    // A change elsewhere still gets through; when it has, the agent has also done whatever it
    // was going to do about the bad file.
    let other = r#"{"address":"10.12.22.9/16","blocks":["192.168.9.0/24"]}"#;
    cluster
        .datastore()
        .write("nodes/k8s-worker-9.json", other.as_bytes())?;
    destinations(&node, |now| now.contains("192.168.9.0/24")).await?;
    cluster.datastore().remove("nodes/k8s-worker-9.json")?;
    destinations(&node, |now| !now.contains("192.168.9.0/24")).await?;
    assert_eq!(node.routes().await?, before);
    assert_eq!(ttl(&cluster).await?, 62);

    let mended = String::from_utf8(good)?.replace("192.168.2.0/24", "192.168.3.0/24");
    cluster.datastore().write(
        FILE,
        mended.replace("192.168.2.0", "192.168.3.0").as_bytes(),
    )?;
    destinations(&node, |now| {
        now.contains("192.168.3.0/24") && !now.contains("192.168.2.0/24")
    })
    .await?;
    Ok(())
}

/// Proves that the network does not need an agent whose kernel does the work: it is killed, and
/// packets go on; it comes back and takes over what it finds.
#[rstest]
#[podlab::test]
async fn a_killed_agent_leaves_the_network_and_takes_it_over_again(
    #[values("kernel", "ebpf")] backend: &str,
) -> Result<()> {
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = backends::boot(seed::spec(), agent, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let before = (node.routes().await?, node.links().await?);
    node.kill_agent().await?;
    assert_eq!(ttl(&cluster).await?, 62, "the network fell with the agent");
    node.start_agent().await?;
    assert_eq!((node.routes().await?, node.links().await?), before);
    assert_eq!(ttl(&cluster).await?, 62);
    Ok(())
}

/// Proves that SIGTERM ends the agent in order, exit code 0, and tears nothing down.
#[rstest]
#[podlab::test]
async fn a_stopped_agent_leaves_the_network_as_it_is(
    #[values("kernel", "ebpf")] backend: &str,
) -> Result<()> {
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = backends::boot(seed::spec(), agent, backend).await?;
    for node in cluster.nodes() {
        let before = (node.routes().await?, node.addresses().await?);
        node.stop_agent().await?;
        assert_eq!((node.routes().await?, node.addresses().await?), before);
    }
    assert_eq!(ttl(&cluster).await?, 62);
    Ok(())
}

/// Proves that an agent which died by itself is not taken for one that was stopped.
#[podlab::test]
async fn an_agent_that_died_is_reported_at_shutdown() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_2)?;
    let agent = node.agent_id().expect("an agent runs");
    let kill = Program::new("sh").args(["-c", &format!("kill -KILL {agent}")]);
    node.exec(kill).await?.success()?;
    let error = cluster.shutdown().await.unwrap_err();
    assert!(
        matches!(error, Error::Agent(AgentError::Ended { .. })),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("node k8s-worker-2 ended (signal: 9"),
        "{error}"
    );
    Ok(())
}

/// Proves that a route which somebody deletes comes back by itself.
#[podlab::test]
async fn a_deleted_route_comes_back() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let before = node.routes().await?;
    node.exec("ip route del 192.168.2.0/24").await?.success()?;
    eventually("the route is back", SOON, || async {
        let routes = node.routes().await.map_err(|error| error.to_string())?;
        if routes == before {
            Ok(())
        } else {
            Err(format!("{routes:?}"))
        }
    })
    .await?;
    assert_eq!(ttl(&cluster).await?, 62);
    Ok(())
}

/// Proves that every agent says which encapsulation it uses and why, and that `auto` does not
/// pass over the kernel's own device in silence.
#[podlab::test]
async fn every_agent_says_which_encapsulation_it_took_and_why() -> Result<()> {
    let cluster = seed::boot().await?;
    for node in cluster.nodes() {
        let status = node.agent_status();
        match status.encapsulation.as_str() {
            "kernel" => assert!(!status.why.is_empty()),
            "ebpf" => assert!(status.why.contains("kernel"), "{}", status.why),
            "userspace" => assert!(
                status.why.contains("kernel: ") && status.why.contains("ebpf: "),
                "{}",
                status.why
            ),
            other => panic!("{} uses {other:?}", node.name()),
        }
    }
    cluster.shutdown().await?;
    Ok(())
}
