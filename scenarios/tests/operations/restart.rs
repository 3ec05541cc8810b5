//! A new life of the agent and what the former one has left.

use anyhow::Result;
use podlab::Node;
use podlab::agent::PodlabAgent;
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, WORKER_1};

use crate::program::{add_foreign_filter, filters};

async fn our_filters(node: &Node, device: &str) -> Result<usize> {
    Ok(filters(node, device).await?.matches("podlab-").count())
}

/// If this fails, a node whose address moved to another interface while no agent ran goes on
/// taking tunnel packets from the old one, with the list of senders of that time.
#[podlab::test]
async fn a_program_on_a_former_lifes_underlay_is_removed() -> Result<()> {
    // Only this backend attaches programs.
    let agent = PodlabAgent::with_encapsulation("ebpf");
    let cluster = backend::boot(seed::spec(), agent, "ebpf").await?;
    let node = cluster.node(WORKER_1)?;
    add_foreign_filter(&node, "lo").await?;
    let theirs = filters(&node, "lo").await?;
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
    assert_eq!(filters(&node, "lo").await?, theirs);
    Ok(())
}
