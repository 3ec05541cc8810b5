//! What happens to the tunnel while agents come, go and change their minds.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use podlab::agent::{Agent, AgentError, PodlabAgent};
use podlab::process::Program;
use podlab::{Cluster, Node};
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1};
use rstest::rstest;

use crate::each::boot;

async fn ttl(cluster: &Cluster) -> Result<u8> {
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    Ok(from.ping(&to).await?.ttl)
}

async fn tunnel_index(node: &Node) -> Result<u32> {
    let links = node.links().await?;
    let tunnel = links.iter().find(|link| link.name == TUNNEL);
    Ok(tunnel.context("no tunnel device")?.index)
}

/// Proves that an agent which comes back takes over the device, the address and the routes of
/// its former life, and carries packets again from the moment it is ready.
#[rstest]
#[podlab::test]
async fn a_killed_agent_carries_again_when_it_is_back(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let node = cluster.node(WORKER_1)?;
    let before = (tunnel_index(&node).await?, node.routes().await?);
    for _ in 0..3 {
        node.kill_agent().await?;
        node.start_agent().await?;
        assert_eq!((tunnel_index(&node).await?, node.routes().await?), before);
        assert_eq!(ttl(&cluster).await?, 62);
    }
    Ok(())
}

/// `podlab-agent` with the backend that is set at the time of its start.
#[derive(Debug, Clone)]
struct Switch(Arc<Mutex<&'static str>>);

impl Agent for Switch {
    fn name(&self) -> &str {
        "podlab-agent"
    }

    fn program(&self, node: &str, datastore: &Path) -> Result<Program, AgentError> {
        let backend = *self.0.lock().expect("nobody panicked");
        PodlabAgent::with_encapsulation(backend).program(node, datastore)
    }
}

/// Proves that an agent which starts with another backend than its former life keeps the device
/// that both use, and leaves none of the other's programs behind, which would take the packets.
#[podlab::test]
async fn a_switch_between_backends_keeps_the_device() -> Result<()> {
    let switch = Switch(Arc::new(Mutex::new("userspace")));
    let cluster = seed::spec().boot_with(switch.clone()).await?;
    let node = cluster.node(WORKER_1)?;
    let before = (tunnel_index(&node).await?, node.routes().await?);
    for backend in ["ebpf", "userspace", "ebpf"] {
        *switch.0.lock().expect("nobody panicked") = backend;
        node.stop_agent().await?;
        let status = node.start_agent().await?;
        assert_eq!(status.encapsulation, backend);
        assert_eq!((tunnel_index(&node).await?, node.routes().await?), before);
        for device in ["tunl0-x", UNDERLAY] {
            let filters = node
                .exec(format!("tc filter show dev {device} ingress").as_str())
                .await?
                .success()?
                .stdout;
            assert_eq!(filters.contains("podlab"), backend == "ebpf", "{filters}");
        }
        assert_eq!(ttl(&cluster).await?, 62);
    }
    Ok(())
}

/// Proves that a change of the peers reaches a tunnel at work without a packet lost: a ping
/// every few milliseconds between two nodes while a third one leaves and comes back.
#[rstest]
#[podlab::test]
async fn peers_change_without_a_lost_packet(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const FILE: &str = "nodes/k8s-master.json";
    let cluster = boot(backend).await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let master = cluster.node(seed::MASTER)?;
    let record = String::from_utf8(cluster.datastore().read(FILE)?)?;
    let address = master.address().to_string();
    let moved = record.replace(&address, "10.12.99.99");
    assert_ne!(moved, record);

    let ping = Program::new("ping").args(["-D", "-i", "0.003", "-c", "400"]);
    let ping = from.spawn(ping.arg(to.address().to_string()))?;
    let mut changes = 0;
    let node = cluster.node(WORKER_1)?;
    for content in [&moved, &record].into_iter().cycle().take(10) {
        let before = node.routes().await?;
        cluster.datastore().write(FILE, content.as_bytes())?;
        podlab::eventually::eventually(
            "the change is in the kernel",
            std::time::Duration::from_secs(5),
            || async {
                let routes = node.routes().await.map_err(|error| error.to_string())?;
                if routes == before {
                    Err("not yet".to_owned())
                } else {
                    Ok(())
                }
            },
        )
        .await?;
        changes += 1;
    }
    let report = ping
        .wait(std::time::Duration::from_secs(30))
        .await?
        .success()?;
    assert_eq!(changes, 10);
    if !report.stdout.contains("400 received") {
        let seqs: Vec<u32> = report
            .stdout
            .lines()
            .filter_map(|l| l.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok())
            .collect();
        for s in 1..=400 {
            if !seqs.contains(&s) {
                println!("MISSING {s}");
                for l in report.stdout.lines().filter(|l| {
                    l.contains(&format!("icmp_seq={} ", s - 1))
                        || l.contains(&format!("icmp_seq={} ", s + 1))
                }) {
                    println!("{l}");
                }
            }
        }
        println!("{}", report.stdout.lines().nth(1).unwrap());
        for n in cluster.nodes() {
            println!("{}\n{}", n.name(), n.agent_log()?);
        }
        panic!("lost");
    }
    Ok(())
}
