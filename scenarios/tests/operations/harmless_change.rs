//! Changes of a live cluster that concern nobody's packets.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use podlab::eventually::eventually;
use podlab::process::Program;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab_scenarios::seed::{DEMO_W2, TEST_TOOLS, WORKER_1};
use rstest::rstest;

use crate::program::{SOON, boot_in, metric};

/// If this fails, whoever edits the configuration interrupts connections.
#[rstest]
#[podlab::test]
async fn item_16_a_harmless_change_restarts_nothing_and_loses_nothing(
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot_in(mode, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let agents: Vec<_> = cluster.nodes().iter().map(|node| node.agent_id()).collect();
    let target = cluster.pod(DEMO_W2)?.address().to_string();
    let ping = Program::new("ping").args(["-i", "0.002", "-q", &target]);
    let ping = cluster.pod(TEST_TOOLS)?.spawn(ping)?;

    let store = cluster.datastore();
    let pool = r#"{"cidr":"10.50.0.0/16","block_size":26,"encapsulation":"never"}"#;
    for round in 0..20 {
        // A pool that nobody uses, a node far away, and files that say what they said.
        let pool = pool.replace("10.50", &format!("10.{}", 50 + round));
        store.write("pools/unused.json", pool.as_bytes())?;
        let blocks = format!(r#"["192.168.{}.0/24"]"#, 100 + round);
        let other = format!(r#"{{"address":"10.12.22.99/16","blocks":{blocks}}}"#);
        store.write("nodes/k8s-worker-9.json", other.as_bytes())?;
        // A sender far away that may send, too, and a pattern that no interface here matches.
        let config = format!(
            r#"{{"external_nodes":["198.51.100.{round}/32"],"mtu_interface_pattern":"^none{round}$"}}"#
        );
        store.write("config.json", config.as_bytes())?;
        let same = store.read("nodes/k8s-worker-2.json")?;
        store.write("nodes/k8s-worker-2.json", &same)?;
        let wanted = format!("192.168.{}.0/24", 100 + round);
        eventually("the change has arrived", SOON, || async {
            let routes = node.routes().await.map_err(|error| error.to_string())?;
            let there = routes.iter().any(|r| r.destination.to_string() == wanted);
            there.then_some(()).ok_or_else(|| format!("{routes:?}"))
        })
        .await?;
    }
    eventually("the configuration has arrived", SOON, || async {
        let table = node.exec("nft list table ip podlab").await;
        let table = table.map_err(|error| error.to_string())?.stdout;
        let there = table.contains("198.51.100.19");
        there.then_some(()).ok_or(table)
    })
    .await?;
    let output = ping.stop(Signal::SIGINT).await?;
    let (sent, received) = counts(&output.stdout)?;
    // ping may be told to end between a request and its answer.
    assert!(sent >= 20 && received + 1 >= sent, "{}", output.stdout);
    let now: Vec<_> = cluster.nodes().iter().map(|node| node.agent_id()).collect();
    assert_eq!(now, agents);
    assert_eq!(metric(&node, "repairs_total{kind=\"route\"}").await?, "0");
    assert_eq!(metric(&node, "ready").await?, "1");
    cluster.shutdown().await?;
    Ok(())
}

/// As in `514 packets transmitted, 514 received, 0% packet loss, time 1043ms`.
fn counts(text: &str) -> Result<(u32, u32)> {
    let numbers = text.lines().find_map(|line| {
        let (sent, rest) = line.split_once(" packets transmitted, ")?;
        let (received, _) = rest.split_once(" received")?;
        Some((sent.parse().ok()?, received.parse().ok()?))
    });
    numbers.with_context(|| format!("no summary in {text:?}"))
}
