//! A suite whose tests fail on purpose, each in its own way: what they leave is what the scenarios
//! in `tests/evidence/bundle.rs` look at. Nobody else runs it.

mod slow;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::agent::PodlabAgent;
use podlab::event::Protocol;
use podlab::eventually::eventually;
use podlab::expect::{icmp, tcp};
use podlab::matrix::{Expectation, Probe};
use podlab::probe::icmp::PingOptions;
use podlab::process::Program;
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

/// Of everything that is collected there is something on `n2` that only this test has put there.
#[podlab::test]
async fn fails_with_marks_of_its_own() -> Result<()> {
    const MARKS: &str = "
        ip link add br9 mtu 1442 type bridge && ip link set br9 up
        ip address add 10.99.0.1/24 dev br9
        ip route add 10.98.0.0/16 dev br9 table 77
        ip rule add priority 77 to 10.98.0.0/16 lookup 77
        ip neighbour add 10.99.0.9 lladdr 02:00:00:00:00:99 dev br9 nud permanent
        nft 'table ip tally { chain in { type filter hook forward priority 0;
             ip daddr 192.168.2.2 icmp type echo-request counter; }; }'
        tc qdisc add dev br9 root handle 9: tbf rate 9mbit burst 9kb latency 9ms
        tc qdisc add dev br9 clsact
        tc filter add dev br9 ingress protocol ip prio 9 bpf da bytecode '1,6 0 0 0,'
        echo 2 > /proc/sys/net/ipv4/conf/br9/rp_filter";
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    let marks = Program::new("sh").args(["-ec", MARKS]);
    cluster.node("n2")?.exec(marks).await?.success()?;
    for _ in 0..2 {
        a.ping(&b).await?;
    }
    cluster.events().note("now the cable is cut");
    let port = cluster.node("n1")?.fabric_port();
    cluster.fabric().set_link_up(&port, false).await?;
    a.ping_with(&b, &soon()).await.context("the marked error")?;
    Ok(())
}

/// Behind the tunnel there is no node of this address: the program drops it, and counts.
#[podlab::test(needs = "bpf")]
async fn fails_on_ebpf() -> Result<()> {
    let agent = PodlabAgent::with_encapsulation("ebpf");
    let cluster = spec().boot_with(agent).await?;
    let route = "ip route add 172.20.0.0/16 via 10.0.0.99 dev tunl0 onlink";
    cluster.node("n1")?.exec(route).await?.success()?;
    let nobody = Ipv4Addr::new(172, 20, 0, 1);
    cluster.pod("a")?.ping_with(nobody, &soon()).await?;
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

/// The port of the fabric before `n2` takes packets of so many bytes, and drops larger ones without
/// a word.
async fn with_a_narrow_port(mtu: u32) -> Result<Cluster> {
    let cluster = spec().boot().await?;
    let port = cluster.node("n2")?.fabric_port();
    cluster.fabric().set_link_mtu(&port, mtu).await?;
    Ok(cluster)
}

#[podlab::test]
async fn fails_by_a_full_size_ping() -> Result<()> {
    let cluster = with_a_narrow_port(1490).await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    let full_size = PingOptions {
        payload: 1452,
        dont_fragment: true,
        ..soon()
    };
    a.ping_with(&b, &full_size).await?;
    Ok(())
}

#[podlab::test]
async fn fails_by_a_link_that_is_down() -> Result<()> {
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    cluster.node("n2")?.set_link_up("eth0", false).await?;
    a.ping_with(&b, &soon()).await?;
    Ok(())
}

async fn one_matrix(cluster: &Cluster, probe: Probe, expected: Expectation) -> Result<()> {
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    let matrix = cluster.matrix().from([&a]).to([&b]).probes([probe]);
    let matrix = matrix.expect(expected).deadline(Duration::from_millis(500));
    matrix.prove().await?;
    Ok(())
}

#[podlab::test]
async fn fails_in_a_matrix_of_large_datagrams() -> Result<()> {
    let cluster = with_a_narrow_port(1450).await?;
    one_matrix(&cluster, Probe::udp(1412), Expectation::reachable()).await
}

/// Drops these of the tunnel's packets to `n2` between the nodes.
async fn filter_in_fabric(cluster: &Cluster, which: &str) -> Result<()> {
    let rule =
        format!("add rule bridge lossy forward ip daddr 10.0.0.3 ip protocol 4 {which} drop");
    for command in [
        "add table bridge lossy",
        "add chain bridge lossy forward { type filter hook forward priority 0; }",
        &rule,
    ] {
        let program = format!("nft {command}");
        let output = cluster.fabric().exec(program.as_str()).await?;
        output.success()?;
    }
    Ok(())
}

#[podlab::test]
async fn fails_in_a_matrix_of_long_connections() -> Result<()> {
    let cluster = spec().boot().await?;
    // No narrow port: a bridge lets segments through that are still to be cut.
    filter_in_fabric(&cluster, "ip length > 1450").await?;
    one_matrix(&cluster, Probe::tcp(20_000), Expectation::reachable()).await
}

#[podlab::test]
async fn fails_by_a_loss_of_one_in_ten() -> Result<()> {
    let cluster = spec().boot().await?;
    filter_in_fabric(&cluster, "numgen inc mod 10 9").await?;
    let all = Expectation::reachable().lost(0..=0, 20);
    one_matrix(&cluster, Probe::icmp(56), all).await
}

#[podlab::test]
async fn fails_in_a_timeline_of_full_size() -> Result<()> {
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    let timeline = cluster.timeline().pair(&a, &b).payload(1452);
    let timeline = timeline.start().await?;
    let port = cluster.node("n2")?.fabric_port();
    cluster.fabric().set_link_mtu(&port, 1490).await?;
    let full_size = PingOptions {
        payload: 1452,
        ..soon()
    };
    ensure!(a.ping_with(&b, &full_size).await.is_err(), "it fits");
    timeline.stop().await?.assert_no_loss()?;
    Ok(())
}

#[podlab::test]
async fn forgets_an_expectation() -> Result<()> {
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    let packets = cluster.capture().path(&a, &b).start().await?;
    a.ping(&b).await?;
    let _forgotten = packets.on(a.tap("eth0")).expect(icmp(&a, &b));
    Ok(())
}

/// Somebody waits for it, and not long enough.
#[podlab::test]
async fn gives_an_expectation_up() -> Result<()> {
    let cluster = spec().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    let packets = cluster.capture().path(&a, &b).start().await?;
    let never = packets.on(a.tap("eth0")).expect(tcp(&a, &b));
    let never = never.within(Duration::from_secs(60));
    let given_up = tokio::time::timeout(Duration::from_millis(20), never).await;
    ensure!(given_up.is_err(), "it has a verdict");
    Ok(())
}

#[podlab::test]
async fn forgets_a_matrix() -> Result<()> {
    let cluster = spec().boot().await?;
    let _forgotten = cluster.matrix().all_pods();
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
