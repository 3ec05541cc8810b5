//! One fault of every kind at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use podlab::fault::{Direction, Fault, Impairment, Loss, Rate};
use podlab::suite::Feature;
use podlab::{Cluster, Error, Node};

use crate::world::{all, pings, reaches, same, same_soon, state};

const COUNT: u32 = 20;

/// So many nodes, each with a pod that serves; the last one is on a network of its own.
const NODES: usize = 9;

async fn nine_nodes() -> Result<Cluster> {
    let mut spec = Cluster::builder().pool("192.168.0.0/16", |pool| pool);
    for number in 1..=NODES {
        let network = if number == NODES { 2 } else { 1 };
        spec = spec
            .node(format!("n{number}"), |node| {
                node.address(format!("10.{network}.0.{}/24", number + 1))
                    .block(format!("192.168.{number}.0/24"))
            })
            .pod(format!("p{number}"), |pod| {
                pod.on(format!("n{number}"))
                    .address(format!("192.168.{number}.5"))
                    .serve_http(8080)
            });
    }
    Ok(spec.boot().await?)
}

/// Every verb that there is, where it does not stand in the way of another.
async fn every_kind(cluster: &Cluster) -> Result<Vec<Fault>, Error> {
    let node = |number: usize| cluster.node(&format!("n{number}"));
    let pod = |number: usize| cluster.pod(&format!("p{number}"));
    let ms = Duration::from_millis;
    let mut faults = vec![
        cluster.partition(["n1", "n2"], ["n3"]).await?,
        cluster.partition_one_way(["n1"], ["n4"]).await?,
        cluster
            .partition_networks("10.1.0.0/24", "10.2.0.0/24")
            .await?,
        cluster.lose(["n1"], ["n2"], Loss::every(2)).await?,
        node(1)?
            .wire()?
            .limit_rate(Direction::Out, Rate::megabits(1))
            .await?,
        node(1)?
            .wire()?
            .lose(Direction::In, Loss::seeded(1, 0.5))
            .await?,
        pod(1)?.wire()?.lose(Direction::Out, Loss::nth(1)).await?,
        node(2)?.wire()?.set_mtu(1300).await?,
        node(3)?.wire()?.flap(ms(20), ms(20)).await?,
        node(4)?.wire()?.down().await?,
        node(5)?.wire()?.lose_carrier().await?,
        pod(2)?.link_down("eth0").await?,
        node(6)?.isolate().await?,
        node(2)?.change_address("10.1.0.99/24").await?,
        node(2)?.lose_datastore().await?,
        node(3)?.corrupt_datastore(1, 3).await?,
        node(4)?.slow_datastore(ms(100)).await?,
        node(5)?.fill_agent_disk().await?,
        node(3)?.freeze_agent().await?,
        node(4)?.crash_agent().await?,
        node(5)?.delay_agent().await?,
        pod(6)?.freeze().await?,
        node(6)?.freeze().await?,
        node(7)?.vandalize(1, 3).await?.fault,
        node(8)?.crash().await?,
    ];
    if Feature::Netem.probe().is_ok() {
        let all = Impairment::delay(ms(5)).jitter(ms(1)).reorder_every(5);
        let all = all.and_duplicate(0.5).and_corrupt(0.5);
        faults.push(node(7)?.wire()?.impair(Direction::In, all).await?);
    }
    Ok(faults)
}

async fn counts(cluster: &Cluster, from: &str, to: &[&str], wanted: u32) -> Result<()> {
    for to in to {
        let (from, to) = (cluster.pod(from)?, cluster.pod(to)?);
        let got = pings(&from, to.address(), COUNT).await?;
        let answered = u32::try_from(got.len())?;
        ensure!(
            answered == wanted,
            "{} to {}: {got:?}",
            from.name(),
            to.name()
        );
    }
    Ok(())
}

/// Proves that the faults, one of every kind at the same time, leave nothing behind, whatever they
/// do to each other: all of them are healed at once, and every device, address, route, neighbour,
/// rule, mount and parameter of every machine is what it was.
#[podlab::test]
async fn one_of_every_kind_is_healed_without_a_trace() -> Result<()> {
    let cluster = nine_nodes().await?;
    let pods: Vec<String> = cluster.pods().iter().map(|p| p.name().to_owned()).collect();
    let others: Vec<&str> = pods.iter().skip(1).map(String::as_str).collect();
    counts(&cluster, "p1", &others, COUNT).await?;
    let before = state(&cluster).await?;
    let faults = every_kind(&cluster).await?;
    assert_eq!(cluster.active_faults().len(), faults.len());
    let dead = |node: &Node| !node.is_agent_running();
    ensure!(dead(&cluster.node("n4")?) && dead(&cluster.node("n5")?));
    counts(&cluster, "p1", &["p3", "p4", "p5", "p6", "p9"], 0).await?;

    cluster.heal_all().await?;
    ensure!(cluster.active_faults().is_empty());
    ensure!(faults.iter().all(|fault| !fault.is_active()));
    same_soon(&cluster, &before).await?;
    for to in &others {
        let (from, to) = (cluster.pod("p1")?, cluster.pod(to)?);
        reaches(&from, to.address()).await?;
        from.http_get(&to, 8080, "/").await?;
    }
    counts(&cluster, "p1", &others, COUNT).await?;
    same(&before, &state(&cluster).await?)?;
    let node = cluster.node("n1")?;
    assert_eq!(pings(&node, "10.2.0.10", COUNT).await?, all(COUNT));
    Ok(())
}
