//! Changes of a live cluster that concern nobody's packets.

use anyhow::Result;
use podlab::eventually::eventually;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab_scenarios::flow::Flow;
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
    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;

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
    Flow::none_lost(flows).await?;
    let now: Vec<_> = cluster.nodes().iter().map(|node| node.agent_id()).collect();
    assert_eq!(now, agents);
    assert_eq!(metric(&node, "repairs_total{kind=\"route\"}").await?, "0");
    assert_eq!(metric(&node, "ready").await?, "1");
    cluster.shutdown().await?;
    Ok(())
}
