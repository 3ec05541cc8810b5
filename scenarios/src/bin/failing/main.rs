//! A suite whose tests fail on purpose, each in its own way: what they leave is what the scenarios
//! in `tests/evidence/bundle.rs` look at. Nobody else runs it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::agent::PodlabAgent;
use podlab::event::Protocol;
use podlab::eventually::eventually;
use podlab::expect::tcp;
use podlab::probe::icmp::PingOptions;
use podlab::spec::ClusterSpec;
use podlab::{Cluster, bundle, suite};

podlab::suite!();

fn spec() -> ClusterSpec {
    Cluster::builder()
        .node("n1", |n| n.address("10.0.0.2/24").block("192.168.1.0/24"))
        .node("n2", |n| n.address("10.0.0.3/24").block("192.168.2.0/24"))
        .node("n3", |n| n.address("10.0.0.4/24").block("192.168.3.0/24"))
        .pod("a", |p| p.on("n1").address("192.168.1.2"))
        .pod("b", |p| p.on("n2").address("192.168.2.2").serve_http(80))
        .pod("c", |p| p.on("n3").address("192.168.3.2"))
}

fn soon() -> PingOptions {
    PingOptions {
        timeout: Duration::from_millis(300),
        ..PingOptions::default()
    }
}

/// Breaks the way from `a` to `b` behind `n1`: the agent is stopped, so that it stays broken.
async fn without_route() -> Result<Cluster> {
    let cluster = spec().boot().await?;
    let n1 = cluster.node("n1")?;
    n1.stop_agent().await?;
    n1.delete_route("192.168.2.0/24".parse()?).await?;
    Ok(cluster)
}

#[podlab::test]
async fn passes() -> Result<()> {
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    ensure!(a.ping(&b).await?.ttl == 62, "ttl");
    Ok(())
}

#[podlab::test]
async fn expects_an_error() -> Result<()> {
    let cluster = without_route().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    ensure!(a.ping_with(&b, &soon()).await.is_err(), "it came through");
    Ok(())
}

#[podlab::test]
async fn is_skipped() {
    let _cluster = spec().boot().await;
    suite::skip("nothing", "it is to be skipped after its boot");
}

#[podlab::test]
async fn fails_by_an_error() -> Result<()> {
    let cluster = without_route().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    a.ping_with(&b, &soon())
        .await
        .context("the error of the test")?;
    Ok(())
}

#[podlab::test]
async fn fails_by_a_panic() {
    let cluster = spec().boot().await.expect("a cluster");
    let (a, b) = (cluster.pod("a").expect("a"), cluster.pod("b").expect("b"));
    let n2 = cluster.node("n2").expect("n2");
    for rule in [
        "nft add table ip strict",
        "nft add chain ip strict forward { type filter hook forward priority 0; }",
        "nft add rule ip strict forward ip daddr 192.168.2.2 drop",
    ] {
        n2.exec(rule).await.expect("nft");
    }
    let ttl = a.ping_with(&b, &soon()).await.map(|reply| reply.ttl);
    assert_eq!(ttl.ok(), Some(62), "the panic of the test");
}

#[podlab::test]
async fn fails_at_boot() -> Result<()> {
    let agent = PodlabAgent::new().args(["--no-such-flag"]);
    spec().boot_with(agent).await?;
    Ok(())
}

/// A cluster that is dropped while the test goes on is no evidence.
#[podlab::test]
async fn fails_after_a_drop() -> Result<()> {
    let cluster = spec().boot().await?;
    let agent = cluster.node("n1")?.agent_id().context("an agent")?;
    drop(cluster);
    eventually("its agent is gone", Duration::from_secs(5), || async {
        match std::fs::exists(format!("/proc/{agent}/exe")) {
            Ok(true) => Err("it runs"),
            _ => Ok(()),
        }
    })
    .await?;
    anyhow::bail!("the error after the drop");
}

/// What it holds beside the cluster must not keep it, nor fail the collection.
#[podlab::test]
async fn fails_with_two_clusters() -> Result<()> {
    let (one, two) = tokio::try_join!(spec().boot(), spec().boot())?;
    let task = tokio::spawn({
        let pod = two.pod("c")?;
        async move {
            std::future::pending::<()>().await;
            drop(pod);
        }
    });
    one.pod("a")?.ping(&one.pod("b")?).await?;
    ensure!(task.is_finished(), "the error with two clusters");
    Ok(())
}

#[podlab::test]
async fn fails_with_a_fault() -> Result<()> {
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    a.ping(&b).await?;
    cluster.partition(["n1"], ["n2"]).await?;
    a.ping_with(&b, &soon()).await?;
    Ok(())
}

#[podlab::test]
async fn fails_in_a_matrix() -> Result<()> {
    let cluster = without_route().await?;
    let _packets = cluster.capture().all().start().await?;
    let matrix = cluster.matrix().all_pods().protocols([Protocol::Icmp]);
    matrix.deadline(Duration::from_millis(500)).prove().await?;
    Ok(())
}

#[podlab::test]
async fn fails_in_an_expectation() -> Result<()> {
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    let packets = cluster.capture().path(&a, &b).start().await?;
    a.ping(&b).await?;
    packets.on(a.tap("eth0")).expect(tcp(&a, &b)).now()?;
    Ok(())
}

/// Not the test fails, but what it watches over.
#[podlab::test]
async fn passes_around_a_failure() -> Result<()> {
    let end = bundle::on_failure("watched", async {
        let cluster = without_route().await?;
        let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
        a.ping_with(&b, &soon()).await.context("the watched error")
    })
    .await;
    let error = end.expect_err("it is lost");
    ensure!(error.to_string() == "the watched error", "{error:?}");
    let cluster = spec().boot().await?;
    let evidence = cluster.evidence("on request").await?;
    ensure!(evidence.diagnosis.is_none(), "{evidence:?}");
    Ok(())
}
