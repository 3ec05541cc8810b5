//! Who reaches whom by ICMP.

use anyhow::{Context, Result};
use podlab::probe::icmp::PingOptions;
use podlab::{Cluster, Machine, Node};
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS};

/// Proves the document's ping: the tunnel costs no hop of its own (64 − 2 = 62), and the answer
/// comes from the pod that was asked.
#[podlab::test]
async fn ping_across_nodes_says_ttl_62() -> Result<()> {
    let cluster = seed::boot().await?;
    let target = cluster.pod(DEMO_W2)?;
    let reply = cluster.pod(TEST_TOOLS)?.ping(&target).await?;
    assert_eq!(reply.ttl, 62);
    assert_eq!(reply.from, target.address());
    Ok(())
}

/// Pings every pod from every machine but itself, and holds ttl and source of the answers to what
/// they must be: the ttl is one of two, on the pod's own node or from elsewhere.
async fn prove_all_pods(
    cluster: &Cluster,
    from: &[(Machine, Node)],
    [same_node, across]: [u8; 2],
) -> Result<()> {
    let mut pairs = 0;
    for (machine, node) in from {
        for to in cluster
            .pods()
            .iter()
            .filter(|to| to.name() != machine.name())
        {
            let pair = format!("{} to {}", machine.name(), to.name());
            let reply = machine.ping(to).await.context(pair.clone())?;
            let ttl = if to.node().name() == node.name() {
                same_node
            } else {
                across
            };
            assert_eq!((reply.ttl, reply.from), (ttl, to.address()), "{pair}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 12);
    Ok(())
}

/// Proves that every pod reaches every other: one forwarding hop on a node, two between nodes.
#[podlab::test]
async fn every_ordered_pair_of_pods() -> Result<()> {
    let cluster = seed::boot().await?;
    let pods = cluster.pods();
    let from: Vec<_> = pods
        .iter()
        .map(|pod| (Machine::clone(pod), pod.node()))
        .collect();
    prove_all_pods(&cluster, &from, [63, 62]).await
}

/// Proves that every node reaches every pod, its own and those of other nodes.
#[podlab::test]
async fn every_node_to_every_pod() -> Result<()> {
    let cluster = seed::boot().await?;
    let nodes = cluster.nodes();
    let from: Vec<_> = nodes
        .iter()
        .map(|node| (Machine::clone(node), node.clone()))
        .collect();
    prove_all_pods(&cluster, &from, [64, 63]).await
}

/// Proves that pods reach the nodes, and nodes each other, on their underlay addresses.
#[podlab::test]
async fn every_pod_and_node_to_every_node() -> Result<()> {
    let cluster = seed::boot().await?;
    for to in cluster.nodes() {
        for from in cluster.pods() {
            from.ping(&to)
                .await
                .context(format!("{} to {}", from.name(), to.name()))?;
        }
        for from in cluster.nodes() {
            from.ping(&to)
                .await
                .context(format!("{} to {}", from.name(), to.name()))?;
        }
    }
    Ok(())
}

/// Proves that the MTU is what the pods are told: a packet of exactly 1440 bytes that may not be
/// fragmented gets through the tunnel.
#[podlab::test]
async fn a_packet_of_the_full_mtu_gets_through_unfragmented() -> Result<()> {
    let cluster = seed::boot().await?;
    let headers = 20 + 8;
    let options = PingOptions {
        payload: seed::MTU as usize - headers,
        dont_fragment: true,
        ..PingOptions::default()
    };
    let reply = cluster
        .pod(TEST_TOOLS)?
        .ping_with(&cluster.pod(DEMO_W2)?, &options)
        .await?;
    assert_eq!(reply.payload, options.payload);
    Ok(())
}
