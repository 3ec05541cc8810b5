//! Who reaches whom by ICMP.

use anyhow::Result;
use podlab::event::Protocol::Icmp;
use podlab::matrix::{Expectation, Question};
use podlab::probe::icmp::PingOptions;
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

/// As many routers forward the request, and the answer, as there are nodes that the pods are on.
fn over(routers: u8) -> Option<Expectation> {
    let ttl = 64 - routers;
    Some(Expectation::reachable().ttl(ttl).ttl_back(ttl))
}

fn on_one_node(question: &Question<'_>) -> Option<bool> {
    Some(question.from.node()?.name() == question.to.node()?.name())
}

/// Proves that every pod reaches every other: one forwarding hop on a node, two between nodes.
#[podlab::test]
async fn every_ordered_pair_of_pods() -> Result<()> {
    let cluster = seed::boot().await?;
    let matrix = cluster.matrix().all_pods().protocols([Icmp]);
    let matrix = matrix
        .expect_each(|question| over(if on_one_node(question)? { 1 } else { 2 }))
        .prove()
        .await?;
    assert_eq!(matrix.checks.len(), 12);
    Ok(())
}

/// Proves that every node reaches every pod, its own and those of other nodes.
#[podlab::test]
async fn every_node_to_every_pod() -> Result<()> {
    let cluster = seed::boot().await?;
    let matrix = cluster.matrix().from(cluster.nodes()).to(cluster.pods());
    let matrix = matrix
        .protocols([Icmp])
        .expect_each(|question| over(if on_one_node(question)? { 0 } else { 1 }))
        .prove()
        .await?;
    assert_eq!(matrix.checks.len(), 12);
    Ok(())
}

/// Proves that pods reach the nodes, and nodes each other, on their underlay addresses.
#[podlab::test]
async fn every_pod_and_node_to_every_node() -> Result<()> {
    let cluster = seed::boot().await?;
    let everybody = cluster.matrix().from(cluster.pods()).from(cluster.nodes());
    everybody.to(cluster.nodes()).prove().await?;
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
