//! Who reaches whom by ICMP.

use anyhow::{Context, Result};
use podlab::probe::icmp::PingOptions;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS};

/// Proves the document's ping: the tunnel costs no hop of its own (64 − 2 = 62), and the answer
/// comes from the pod that was asked.
#[tokio::test]
async fn ping_across_nodes_says_ttl_62() -> Result<()> {
    let cluster = seed::boot().await?;
    let target = cluster.pod(DEMO_W2)?;
    let reply = cluster.pod(TEST_TOOLS)?.ping(&target).await?;
    assert_eq!(reply.ttl, 62);
    assert_eq!(reply.from, target.address());
    Ok(())
}

/// Proves that every pod reaches every other: one forwarding hop on a node, two between nodes.
#[tokio::test]
async fn every_ordered_pair_of_pods() -> Result<()> {
    let cluster = seed::boot().await?;
    let mut pairs = 0;
    for from in cluster.pods() {
        for to in cluster.pods() {
            if from.name() == to.name() {
                continue;
            }
            let pair = format!("{} to {}", from.name(), to.name());
            let reply = from.ping(&to).await.context(pair.clone())?;
            let ttl = if from.node().name() == to.node().name() {
                63
            } else {
                62
            };
            assert_eq!((reply.ttl, reply.from), (ttl, to.address()), "{pair}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 12);
    Ok(())
}

/// Proves that every node reaches every pod, its own and those of other nodes.
#[tokio::test]
async fn every_node_to_every_pod() -> Result<()> {
    let cluster = seed::boot().await?;
    let mut pairs = 0;
    for from in cluster.nodes() {
        for to in cluster.pods() {
            let pair = format!("{} to {}", from.name(), to.name());
            let reply = from.ping(&to).await.context(pair.clone())?;
            let ttl = if from.name() == to.node().name() {
                64
            } else {
                63
            };
            assert_eq!((reply.ttl, reply.from), (ttl, to.address()), "{pair}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 12);
    Ok(())
}

/// Proves that pods reach the nodes, and nodes each other, on their underlay addresses.
#[tokio::test]
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
#[tokio::test]
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
