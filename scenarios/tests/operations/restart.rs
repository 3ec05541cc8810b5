//! A new life of the agent and what the former one has left.

use anyhow::Result;
use podlab::Node;
use podlab_scenarios::seed::{self, WORKER_1};

async fn our_filters(node: &Node, device: &str) -> Result<usize> {
    let show = format!("tc filter show dev {device} ingress");
    let filters = node.exec(show.as_str()).await?.success()?.stdout;
    Ok(filters.matches("podlab-").count())
}

/// If this fails, a node whose address moved to another interface while no agent ran goes on
/// taking tunnel packets from the old one, with the list of senders of that time.
#[tokio::test]
async fn a_program_on_a_former_lifes_underlay_is_removed() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    if node.agent_status().encapsulation != "ebpf" {
        eprintln!("skipped: only the ebpf backend attaches programs");
        return Ok(());
    }
    node.exec("tc qdisc replace dev lo clsact")
        .await?
        .success()?;
    let theirs = "tc filter add dev lo ingress pref 80 protocol all matchall action ok";
    node.exec(theirs).await?.success()?;
    assert_eq!(our_filters(&node, "ens192").await?, 1);
    node.kill_agent().await?;
    for change in [
        "ip address del 10.12.22.2/16 dev ens192",
        "ip link add eth9 type veth peer name eth9-x",
        "ip link set eth9 up",
        "ip address add 10.12.22.2/16 dev eth9",
    ] {
        node.exec(change).await?.success()?;
    }
    node.start_agent().await?;
    assert_eq!(our_filters(&node, "eth9").await?, 1);
    assert_eq!(our_filters(&node, "ens192").await?, 0);
    assert_eq!(our_filters(&node, "tunl0-x").await?, 1);
    let kept = node
        .exec("tc filter show dev lo ingress")
        .await?
        .success()?;
    assert!(kept.stdout.contains("matchall"), "{}", kept.stdout);
    Ok(())
}
