//! What the harness promises about a change that cannot be, and about things that are gone.

use std::path::Path;

use anyhow::Result;
use podlab::agent::{Agent, AgentError, PodlabAgent};
use podlab::process::Program;
use podlab::spec::Encapsulation::Always;
use podlab::{Cluster, Error};

use crate::world::{all_pairs, two_subnets};

/// If this fails, a typo in a change is found only after half of it was made.
#[podlab::test]
async fn a_change_that_cannot_be_names_all_its_faults_and_touches_nothing() -> Result<()> {
    let cluster = two_subnets(Always).boot().await?;
    let before = state(&cluster).await?;
    let error = cluster
        .add_pod("web", |p| p.on("n9").address("192.168.1.5"))
        .await
        .unwrap_err();
    let Error::Spec(error) = error else {
        panic!("{error}")
    };
    let faults: Vec<&str> = error
        .faults
        .iter()
        .map(|fault| fault.message.as_str())
        .collect();
    assert_eq!(
        faults,
        [
            "it is on node \"n9\", which does not exist",
            "its address 192.168.1.5 belongs to pod \"p1\" already"
        ]
    );
    let n1 = cluster.node("n1")?;
    for refused in [
        cluster
            .add_node("n1", |n| n.address("10.12.0.1/24"))
            .await
            .map(drop),
        // Nobody chose it, but it is the gateway's since the boot.
        cluster
            .add_node("n9", |n| n.address("10.12.0.1/24"))
            .await
            .map(drop),
        cluster.move_pod("p1", "n9").await,
        cluster.move_pod("p9", "n1").await,
        cluster.renumber_pod("p1", "192.168.1.0").await,
        cluster.remove_node("n9").await,
        cluster.set_pool("no-pool", |pool| pool).await,
        n1.set_address("10.12.0.12/24").await,
        n1.move_address("eth1").await,
        n1.set_underlay_mtu(20).await,
        n1.add_block("192.168.2.0/25").await,
        n1.remove_block("192.168.2.0/24").await,
        n1.set_tunnel_address("172.16.0.1").await,
    ] {
        let error = refused.unwrap_err();
        let refused = matches!(error, Error::Spec(_) | Error::Unknown { .. });
        assert!(refused && error.to_string().contains("hint: "), "{error}");
    }
    assert_eq!(state(&cluster).await?, before);
    all_pairs(&cluster).await
}

/// If this fails, pods are left with addresses of a block that nobody has.
#[podlab::test]
async fn a_node_whose_block_is_used_elsewhere_stays() -> Result<()> {
    let cluster = two_subnets(Always).boot().await?;
    cluster.move_pod("p1", "n2").await?;
    let error = cluster.remove_node("n1").await.unwrap_err().to_string();
    assert!(
        error.contains("pod \"p1\": its address 192.168.1.5 lies outside every block"),
        "{error}"
    );
    all_pairs(&cluster).await
}

/// If this fails, a test that holds on to a removed node gets the kernel's riddles, or the verbs
/// reach a machine that is no part of the cluster.
#[podlab::test]
async fn a_handle_on_what_was_removed_says_so() -> Result<()> {
    let cluster = two_subnets(Always).boot().await?;
    let (node, pod) = (cluster.node("n3")?, cluster.pod("p3")?);
    let sleeping = pod.spawn("sleep 1000")?;
    cluster.remove_node("n3").await?;
    let everything = podlab::capture::Filter::everything();
    let p1 = cluster.pod("p1")?;
    for (error, name) in [
        (node.exec("true").await.map(drop), "n3"),
        (node.ping(&p1).await.map(drop), "n3"),
        (node.links().await.map(drop), "n3"),
        (node.start_agent().await.map(drop), "n3"),
        (node.agent_log().map(drop), "n3"),
        (node.set_address("10.13.0.99/24").await, "n3"),
        (pod.spawn("true").map(drop), "p3"),
        (pod.http_get(&p1, 80, "/").await.map(drop), "p3"),
        (
            pod.serve_http(80, podlab::probe::server::hello("x"))
                .map(drop),
            "p3",
        ),
        (pod.capture("eth0", &everything).map(drop), "p3"),
    ] {
        let error = error.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Removed { .. }), "{text}");
        assert!(
            text.starts_with(&format!("{name} was removed from the cluster\nhint: ")),
            "{text}"
        );
    }
    // What ran in it was killed.
    let ended = sleeping.wait(std::time::Duration::from_secs(5)).await?;
    assert!(!ended.status.success());
    assert_eq!((node.name(), node.is_agent_running()), ("n3", false));
    assert_eq!(pod.node().name(), "n3");
    Ok(())
}

/// An agent that fails on one node and is ours on the others.
#[derive(Debug)]
struct FailsOn(&'static str);

impl Agent for FailsOn {
    fn name(&self) -> &str {
        "fails-on"
    }

    fn program(&self, node: &str, datastore: &Path) -> Result<Program, AgentError> {
        match node == self.0 {
            true => Ok(Program::new("false")),
            false => PodlabAgent::new().program(node, datastore),
        }
    }
}

/// If this fails, a node that could not be added stays in the cluster by half.
#[podlab::test]
async fn a_change_that_fails_is_taken_back() -> Result<()> {
    let cluster = two_subnets(Always).boot_with(FailsOn("n4")).await?;
    let before = state(&cluster).await?;
    let error = cluster
        .add_node("n4", |n| n.address("10.14.0.14/24").block("192.168.4.0/24"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Agent(AgentError::Ended { .. })),
        "{error}"
    );
    assert_eq!(state(&cluster).await?, before);
    // Its address, its block and its network are free again.
    cluster
        .add_node("n5", |n| n.address("10.14.0.14/24").block("192.168.4.0/24"))
        .await?;
    cluster
        .add_pod("p5", |p| p.on("n5").address("192.168.4.5"))
        .await?;
    all_pairs(&cluster).await
}

/// All that the harness has made and written: machines, links, addresses, files.
async fn state(cluster: &Cluster) -> Result<Vec<String>> {
    let mut state = Vec::new();
    let nodes = cluster.nodes().into_iter().map(|node| (*node).clone());
    let pods = cluster.pods().into_iter().map(|pod| (*pod).clone());
    for machine in nodes.chain(pods).chain([cluster.fabric().clone()]) {
        let links = machine.links().await?.into_iter();
        let mut links: Vec<String> = links.map(|l| format!("{} {}", l.name, l.mtu)).collect();
        links.sort();
        let addresses = machine.addresses().await?;
        state.push(format!("{}: {links:?} {addresses:?}", machine.name()));
    }
    let mut folders = vec![cluster.datastore().path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                state.push(format!(
                    "{} {}",
                    path.display(),
                    std::fs::read_to_string(&path)?
                ));
            }
        }
    }
    let hosts = cluster
        .node("n1")?
        .exec("cat /etc/hosts")
        .await?
        .success()?
        .stdout;
    state.push(hosts);
    state.sort();
    Ok(state)
}
