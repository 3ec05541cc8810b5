//! Who does not hear whom.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use podlab::capture::Filter;
use podlab::{Cluster, Node};
use podlab_scenarios::seed::{DEMO_W2, MASTER, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;
use tokio::task::JoinSet;

use crate::world::{all, boot, pings, same, state};

const COUNT: u32 = 20;

/// Proves that a partition cuts exactly the sets that it names, for tunnel packets and others,
/// and that healing it undoes all of it.
#[rstest]
#[podlab::test]
async fn a_partition_cuts_the_two_sides_and_nobody_else(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let (tools, far) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let nodes = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let master = cluster.node(MASTER)?;
    let before = state(&cluster).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));

    let cut = cluster.partition([WORKER_1], [WORKER_2]).await?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, [].into());
    let dropped = cut.dropped().await?.unwrap();
    // The neighbour entry may age meanwhile: an ARP request instead of some of the packets.
    ensure!(dropped > 0, "nothing was dropped");
    assert_eq!(pings(&nodes.0, nodes.1.address(), COUNT).await?, [].into());
    assert_eq!(pings(&nodes.1, nodes.0.address(), COUNT).await?, [].into());
    for node in [&nodes.0, &nodes.1] {
        assert_eq!(pings(node, master.address(), COUNT).await?, all(COUNT));
    }

    cut.heal().await?;
    assert_eq!(cut.dropped().await?, None);
    same(&before, &state(&cluster).await?)?;
    assert_eq!(pings(&tools, far.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that a one-way partition is one: all requests arrive, and no answer does.
#[podlab::test]
async fn a_one_way_partition_lets_the_other_way_pass() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (one, two) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    one.ping(&two).await?;
    // Fresh neighbours would not ask; stale ones would, and get no answer.
    for (node, other) in [(&one, &two), (&two, &one)] {
        let links = other.links().await?;
        let mac = links.iter().find(|l| l.name == other.underlay()).unwrap();
        let set = format!(
            "ip neigh replace {} lladdr {} dev {} nud permanent",
            other.address(),
            mac.mac.unwrap(),
            node.underlay()
        );
        node.exec(set.as_str()).await?.success()?;
    }
    let before = state(&cluster).await?;
    let cut = cluster.partition_one_way([WORKER_2], [WORKER_1]).await?;
    let at_two = two.capture(two.underlay(), &Filter::protocol(1))?;
    let at_one = one.capture(one.underlay(), &Filter::protocol(1))?;
    assert_eq!(pings(&one, two.address(), COUNT).await?, [].into());
    // Requests and the answers to them, and requests alone.
    let both = usize::try_from(2 * COUNT)?;
    assert_eq!(at_two.stop().await?.packets.len(), both);
    assert_eq!(at_one.stop().await?.packets.len(), both / 2);
    assert_eq!(cut.dropped().await?, Some(u64::from(COUNT)));
    cut.heal().await?;
    same(&before, &state(&cluster).await?)?;
    assert_eq!(pings(&one, two.address(), COUNT).await?, all(COUNT));
    Ok(())
}

/// Which nodes hear which, by the pings that were answered: all of them, or none.
async fn who_hears_whom(nodes: &[Node]) -> Result<BTreeSet<(String, String)>> {
    let mut asked = JoinSet::new();
    for from in nodes {
        for to in nodes.iter().filter(|to| to.name() != from.name()) {
            let (from, to) = (from.clone(), to.clone());
            asked.spawn(async move {
                let got = pings(&from, to.address(), COUNT).await?;
                let names = (from.name().to_owned(), to.name().to_owned());
                ensure!(got.is_empty() || got == all(COUNT), "{names:?}: {got:?}");
                anyhow::Ok((!got.is_empty()).then_some(names))
            });
        }
    }
    let mut hears = BTreeSet::new();
    while let Some(pair) = asked.join_next().await {
        hears.extend(pair??);
    }
    Ok(hears)
}

/// Proves that two sets of nodes that are cut apart are, every node of the one from every node of
/// the other in both directions, and that all other pairs hear each other.
#[podlab::test]
async fn two_sets_of_nodes_are_cut_apart_in_all_directions() -> Result<()> {
    let mut spec = Cluster::builder();
    for number in 1..=5 {
        spec = spec.node(format!("n{number}"), |node| {
            node.address(format!("10.12.0.{number}/24"))
        });
    }
    let cluster = spec.boot().await?;
    let nodes = cluster.nodes();
    let everybody = who_hears_whom(&nodes).await?;
    assert_eq!(everybody.len(), 20);
    let before = state(&cluster).await?;
    let (some, others) = (["n1", "n4"], ["n2", "n5"]);
    let cut = cluster.partition(some, others).await?;
    let across = |(from, to): &(String, String)| {
        let (from, to) = (from.as_str(), to.as_str());
        some.contains(&from) && others.contains(&to) || others.contains(&from) && some.contains(&to)
    };
    let mut expected = everybody.clone();
    expected.retain(|pair| !across(pair));
    assert_eq!(expected.len(), 12);
    assert_eq!(who_hears_whom(&nodes).await?, expected);
    cut.heal().await?;
    same(&before, &state(&cluster).await?)?;
    assert_eq!(who_hears_whom(&nodes).await?, everybody);
    Ok(())
}

/// Proves that an isolated node hears nobody, the gateway included, while its own pods talk.
#[podlab::test]
async fn an_isolated_node_has_only_itself() -> Result<()> {
    let cluster = boot("userspace").await?;
    let node = cluster.node(WORKER_1)?;
    let (tools, echo) = (cluster.pod(TEST_TOOLS)?, cluster.pod("c2c-network-demo")?);
    let before = state(&cluster).await?;
    let gateway = cluster.fabric().addresses().await?;
    let gateway = gateway.iter().find(|a| a.interface != "lo").unwrap();
    let gateway = gateway.address.addr();
    assert_eq!(pings(&node, gateway, COUNT).await?, all(COUNT));
    let cut = node.isolate().await?;
    for other in [gateway, cluster.node(MASTER)?.address()] {
        assert_eq!(pings(&node, other, COUNT).await?, [].into());
    }
    assert_eq!(
        pings(cluster.fabric(), node.address(), COUNT).await?,
        [].into()
    );
    assert_eq!(pings(&tools, echo.address(), COUNT).await?, all(COUNT));
    let error = node.isolate().await.unwrap_err().to_string();
    ensure!(error.contains("is there already"), "{error}");
    cut.heal().await?;
    same(&before, &state(&cluster).await?)?;
    assert_eq!(pings(&node, gateway, COUNT).await?, all(COUNT));
    Ok(())
}

/// Proves that networks that are cut off from each other are, though the gateway serves both.
#[podlab::test]
async fn two_networks_can_be_cut_apart() -> Result<()> {
    let node = |address: &'static str, block: &'static str| {
        move |n: podlab::spec::NodeBuilder| n.address(address).block(block)
    };
    let cluster = Cluster::builder()
        .node("a1", node("10.1.0.2/24", "192.168.1.0/24"))
        .node("a2", node("10.1.0.3/24", "192.168.2.0/24"))
        .node("b1", node("10.2.0.2/24", "192.168.3.0/24"))
        .boot()
        .await?;
    let (a1, a2, b1) = (
        cluster.node("a1")?,
        cluster.node("a2")?,
        cluster.node("b1")?,
    );
    assert_eq!(pings(&a1, b1.address(), COUNT).await?, all(COUNT));
    let before = state(&cluster).await?;
    let cut = cluster
        .partition_networks("10.1.0.0/24", "10.2.0.0/24")
        .await?;
    assert_eq!(pings(&a1, b1.address(), COUNT).await?, [].into());
    assert_eq!(cut.dropped().await?, Some(u64::from(COUNT)));
    assert_eq!(pings(&b1, a2.address(), COUNT).await?, [].into());
    assert_eq!(pings(&a1, a2.address(), COUNT).await?, all(COUNT));
    for (node, gateway) in [(&a1, "10.1.0.1"), (&b1, "10.2.0.1")] {
        let gateway: std::net::Ipv4Addr = gateway.parse()?;
        let known = cluster.fabric().addresses().await?;
        let known = known.iter().find(|a| a.address.contains(&gateway)).unwrap();
        assert_eq!(pings(node, known.address.addr(), COUNT).await?, all(COUNT));
    }
    cut.heal().await?;
    same(&before, &state(&cluster).await?)?;
    assert_eq!(pings(&a1, b1.address(), COUNT).await?, all(COUNT));

    // A single pair of nodes of different networks can be cut, too.
    cluster.partition(["a1"], ["b1"]).await?;
    assert_eq!(pings(&a1, b1.address(), COUNT).await?, [].into());
    assert_eq!(pings(&a2, b1.address(), COUNT).await?, all(COUNT));
    Ok(())
}
