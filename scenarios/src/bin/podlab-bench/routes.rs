//! A thousand nodes in the datastore of one real node: the time until all their routes are there.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ipnet::Ipv4Net;
use podlab::{Cluster, Node};

use super::results::{Results, ms};

pub(crate) const NAME: &str = "routes";
pub(super) const NODES: u32 = 1000;
const BLOCKS: u32 = 5;

/// Switches the pool's mode, which changes every one of 5,000 routes, and measures from the
/// datastore's rename to the last route.
pub(crate) async fn run(results: &mut Results) -> Result<()> {
    let cluster = Cluster::builder()
        .pool("10.128.0.0/9", |pool| pool.block_size(26))
        .node("real", |node| {
            node.address("10.12.0.2/16").block("10.128.0.0/26")
        })
        .node("plain", |node| {
            node.address("10.12.0.3/16").block("10.128.0.64/26")
        })
        .boot()
        .await?;
    let node = cluster.node("real")?;
    let blocks = fill(&cluster, &node).await?;
    let reference = ip_batch(&cluster, &cluster.node("plain")?, &blocks).await?;
    let mut events = node.route_events()?;
    let pool = String::from_utf8(cluster.datastore().read("pools/default-pool.json")?)?;
    let never = pool.replace("\"always\"", "\"never\"");
    ensure!(never != pool, "the pool's mode was not found in {pool}");
    let start = Instant::now();
    cluster
        .datastore()
        .write("pools/default-pool.json", never.as_bytes())?;
    let mut waiting = blocks.clone();
    let mut last = start;
    while !waiting.is_empty() {
        let event = events
            .next()
            .await
            .context("the kernel sends no more events")?;
        if event.present && waiting.remove(&event.destination) {
            last = event.at;
        }
    }
    let name = format!("{} routes after one change", blocks.len());
    results.add(
        name,
        "ms",
        ms(last - start),
        reference,
        "ip -batch of as many",
    );
    Ok(())
}

/// Puts a thousand nodes that do not exist into the datastore, and waits until `node` has the
/// routes to their blocks, which are returned.
pub(super) async fn fill(cluster: &Cluster, node: &Node) -> Result<BTreeSet<Ipv4Net>> {
    let blocks = add_nodes(cluster)?;
    // Their arrival in a thousand renames is no measure.
    podlab::eventually::eventually(
        "all routes are there",
        std::time::Duration::from_secs(60),
        || async {
            let routes = node.routes().await.map_err(|error| error.to_string())?;
            let there: BTreeSet<Ipv4Net> = routes.iter().map(|route| route.destination).collect();
            let missing = blocks.difference(&there).count();
            if missing == 0 {
                Ok(())
            } else {
                Err(format!("{missing} are missing"))
            }
        },
    )
    .await?;
    Ok(blocks)
}

/// Puts nodes that do not exist into the datastore, and returns their blocks.
fn add_nodes(cluster: &Cluster) -> Result<BTreeSet<Ipv4Net>> {
    let mut blocks = BTreeSet::new();
    for node in 0..NODES {
        let own: Vec<Ipv4Net> = (0..BLOCKS)
            .map(|block| {
                let base = u32::from_be_bytes([10, 129, 0, 0]) + (node * BLOCKS + block) * 64;
                Ipv4Net::new_assert(base.into(), 26)
            })
            .collect();
        let address = std::net::Ipv4Addr::from(u32::from_be_bytes([10, 12, 4, 0]) + node);
        let content = serde_json::json!({ "address": format!("{address}/16"), "blocks": own });
        let file = format!("nodes/far-{node}.json");
        cluster
            .datastore()
            .write(&file, content.to_string().as_bytes())?;
        blocks.extend(own);
    }
    Ok(blocks)
}

/// How long `ip -batch` takes to replace as many routes on a node whose agent is stopped.
async fn ip_batch(cluster: &Cluster, node: &Node, blocks: &BTreeSet<Ipv4Net>) -> Result<f64> {
    node.stop_agent().await?;
    let lines = blocks
        .iter()
        .map(|block| format!("route replace {block} via 10.12.0.2\n"));
    // Every node sees the datastore, and agents pass over what is no JSON file.
    cluster
        .datastore()
        .write("batch", lines.collect::<String>().as_bytes())?;
    let start = Instant::now();
    node.exec("ip -batch /run/podlab/datastore/batch")
        .await?
        .success()?;
    Ok(ms(start.elapsed()))
}
