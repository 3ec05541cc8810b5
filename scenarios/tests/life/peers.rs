//! Other nodes that come and go while pods talk.

use anyhow::{Result, ensure};
use podlab_scenarios::flow::Flow;
use podlab_scenarios::seed::{self, DEMO_W2, MASTER, TEST_TOOLS, WORKER_1};
use rstest::rstest;

use crate::agents::boot;
use crate::restart::SOON;

/// Proves that a change of the peers reaches a tunnel at work without a packet lost: two nodes
/// talk while a third one moves away and comes back.
#[rstest]
#[podlab::test]
async fn peers_change_without_a_lost_packet(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const FILE: &str = "nodes/k8s-master.json";
    let cluster = boot(seed::spec(), backend).await?;
    let node = cluster.node(WORKER_1)?;
    let address = cluster.node(MASTER)?.address().to_string();
    let record = String::from_utf8(cluster.datastore().read(FILE)?)?;
    let moved = record.replace(&address, "10.12.99.99");
    ensure!(moved != record, "{record}");

    let flows = Flow::between(&cluster, &[TEST_TOOLS, DEMO_W2]).await?;
    for content in [&moved, &record].into_iter().cycle().take(10) {
        let before = node.routes().await?;
        cluster.datastore().write(FILE, content.as_bytes())?;
        podlab::eventually::eventually("the change is in the kernel", SOON, || async {
            match node.routes().await {
                Ok(routes) if routes != before => Ok(()),
                Ok(_) => Err("not yet".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
    }
    Flow::none_lost(flows).await
}
