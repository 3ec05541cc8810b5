//! Who reaches whom: that a matrix finds what is so, and names what is not.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use podlab::agent::PodlabAgent;
use podlab::event::Kind;
use podlab::event::Protocol::{Http, Icmp, Tcp, Udp};
use podlab::matrix::{Check, Difference, Expectation, Peer, Probe, Question};
use podlab::probe::Failure;
use podlab::probe::server::hello;
use podlab::process::Program;
use podlab::{Cluster, Machine};
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, DEMO, DEMO_W2, ECHO_SERVER, TEST_TOOLS, WORKER_1};
use podlab_scenarios::unnumbered;
use rstest::rstest;

/// Long enough for what is wrong to be seen as wrong; it will not become right.
const SHORT: Duration = Duration::from_millis(100);
/// Long enough for what shall become right.
const LONG: Duration = Duration::from_secs(10);

/// Runs a script on a machine, which has to succeed.
async fn run(machine: &Machine, script: &str) -> Result<()> {
    let program = Program::new("sh").args(["-c", script]);
    machine.exec(program).await?.success()?;
    Ok(())
}

async fn boot(encapsulation: &str) -> Result<Cluster> {
    let agent = PodlabAgent::with_encapsulation(encapsulation);
    Ok(backend::boot(seed::spec(), agent, encapsulation).await?)
}

/// Calico's IPIP mode where every way between nodes leads through the tunnel: a node shows pods of
/// other nodes its tunnel's address, and its own ones what the kernel takes on their interfaces.
async fn of_the_seed(
    cluster: &Cluster,
) -> Result<impl Fn(&Question<'_>) -> Option<Expectation> + Send + Sync + 'static> {
    let mut to_own_pods = BTreeMap::new();
    for node in cluster.nodes() {
        to_own_pods.insert(node.name().to_owned(), unnumbered::source(&node).await?);
    }
    Ok(move |question: &Question<'_>| {
        let (from, to) = (question.from.node()?, question.to.node()?);
        let near = from.name() == to.name();
        let (source, ttl) = match (question.from.pod(), question.to.pod()) {
            (Some(pod), Some(_)) => (pod.address(), if near { 63 } else { 62 }),
            (Some(pod), None) if near => (pod.address(), 64),
            (Some(pod), None) => (pod.address(), 63),
            (None, Some(_)) if near => (*to_own_pods.get(from.name())?, 64),
            (None, Some(_)) => (from.tunnel_address()?, 63),
            (None, None) => (from.address(), 64),
        };
        Some(Expectation::reachable().source(source).ttl(ttl))
    })
}

/// Proves that pods and nodes reach each other by every protocol and with every size, under the
/// right source and over the right number of routers: what a pod network is for.
#[rstest]
#[podlab::test]
async fn every_protocol_and_size_passes_between_all_pods_and_nodes(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
) -> Result<()> {
    let cluster = boot(encapsulation).await?;
    let matrix = cluster
        .matrix()
        .all_pods()
        .all_nodes()
        .protocols([Icmp, Tcp, Udp, Http])
        // Up to the MTU of 1440 less 28 bytes of headers, one more, and far beyond.
        .sizes([20, 1412, 1413, 4000, 60_000])
        .expect_each(of_the_seed(&cluster).await?)
        .prove()
        .await?;
    assert_eq!(matrix.checks.len(), 7 * 6 * 4 * 5);
    println!("{matrix}");
    Ok(())
}

/// Proves that a route that is missing on one node makes wrong exactly the pairs that need it, and
/// that the printed matrix names them: a matrix that blames others sends its reader astray.
#[podlab::test]
async fn a_missing_route_is_seen_in_exactly_the_pairs_that_need_it() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let worker = cluster.node(WORKER_1)?;
    // Nobody puts it back.
    worker.kill_agent().await?;
    worker.delete_route("192.168.2.0/24".parse()?).await?;
    let matrix = cluster
        .matrix()
        .all_pods()
        .protocols([Icmp, Tcp, Udp, Http])
        .expect_each(of_the_seed(&cluster).await?)
        .deadline(SHORT)
        .run()
        .await?;
    assert!(!matrix.is_right());
    // There the way is missing, from there the answers' way.
    let pairs = [
        (ECHO_SERVER, DEMO_W2),
        (DEMO, DEMO_W2),
        (TEST_TOOLS, DEMO_W2),
        (DEMO_W2, ECHO_SERVER),
        (DEMO_W2, DEMO),
        (DEMO_W2, TEST_TOOLS),
    ];
    assert_eq!(matrix.wrong_pairs(), pairs, "{matrix}");
    assert!(
        matrix
            .wrong()
            .all(|check| check.wrong == [Difference::Lost]),
        "{matrix}"
    );
    let back: Vec<_> = matrix.between(DEMO_W2, TEST_TOOLS).collect();
    assert!(
        back.iter()
            .all(|check| failures(check) == [Failure::TimedOut]),
        "{matrix}"
    );
    assert_eq!(back[0].actual.arrived, 1, "the request had come: {matrix}");

    let error = matrix.assert().expect_err("it is wrong").to_string();
    println!("{error}");
    let lines = [
        "matrix of 12 pairs by icmp 56, tcp 56, udp 56, http 56: 24 of 48 answers wrong after ",
        "test-tools → c2c-network-demo-w2: ",
        "c2c-network-demo-w2 → test-tools: icmp 56\n",
        "  expected  reachable, source 192.168.2.6, ttl 62\n",
        "no answer: timed out (ping 192.168.1.12: no answer to icmp_seq=1 within ",
        ", but it had arrived: the way back is broken\n",
    ];
    for line in lines {
        assert!(error.contains(line), "{line:?} is not in {error}");
    }
    Ok(())
}

/// How the probes of a question failed.
fn failures(check: &Check) -> Vec<Failure> {
    let failures = check.actual.failures.iter();
    failures.map(|failed| failed.how).collect()
}

/// Proves that "unreachable" is believed only when it lasts, in the way that was expected, and
/// while the server answers its own machine; and that it is noticed when it is not so.
#[podlab::test]
async fn unreachable_has_to_be_proven() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let ask = |expectation: Expectation| {
        cluster
            .matrix()
            .from([&from])
            .to([&to])
            .protocols([Icmp, Tcp, Udp])
            .expect(expectation)
            .deadline(SHORT)
            .answer_within(Duration::from_millis(200))
    };
    let open = ask(Expectation::unreachable()).run().await?;
    assert_eq!(open.wrong().count(), 3, "{open}");
    assert!(
        open.wrong()
            .all(|check| check.wrong == [Difference::Answered]),
        "{open}"
    );

    run(
        &to,
        "nft add table ip t && nft 'add chain ip t in { type filter hook input priority 0; }'",
    )
    .await?;
    run(&to, "nft 'add rule ip t in iifname eth0 drop'").await?;
    let closed = ask(Expectation::failing(Failure::TimedOut)).deadline(LONG);
    let closed = closed.prove().await?;
    assert_eq!(closed.rounds, 3, "three in a row prove it: {closed}");
    let otherwise = ask(Expectation::failing(Failure::Refused)).run().await?;
    assert_eq!(otherwise.wrong().count(), otherwise.checks.len());
    assert!(
        otherwise
            .wrong()
            .all(|check| check.wrong == [Difference::How]),
        "{otherwise}"
    );

    // With "port unreachable", as often as it is asked.
    run(&to, "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit").await?;
    let reject = "nft flush chain ip t in && nft 'add rule ip t in iifname eth0 reject'";
    run(&to, reject).await?;
    let refused = ask(Expectation::failing(Failure::Refused)).deadline(LONG);
    refused.prove().await?;

    // A server that nobody reaches, not even its own machine, proves nothing about the network.
    run(
        &to,
        "nft flush chain ip t in && nft 'add rule ip t in drop'",
    )
    .await?;
    let dead = ask(Expectation::unreachable()).run().await?;
    assert_eq!(dead.wrong().count(), 3, "{dead}");
    assert!(
        dead.wrong()
            .all(|check| check.wrong == [Difference::Unproven]),
        "{dead}"
    );
    Ok(())
}

/// Proves that a node's own answer "too big" is told from a packet that vanishes, and that without
/// the bit the same size passes: a black hole for large packets is the classic fault of tunnels.
#[rstest]
#[podlab::test]
async fn what_may_not_be_cut_is_too_big_beyond_the_mtu(
    #[values("kernel", "ebpf", "userspace")] encapsulation: &str,
) -> Result<()> {
    let cluster = boot(encapsulation).await?;
    // What fits into the MTU of 1440 behind the headers of IPv4 and ICMP or UDP.
    const FITS: u32 = seed::MTU - 28;
    let large = |size| [Probe::icmp(size), Probe::udp(size)];
    let whole = |size| large(size).map(Probe::dont_fragment);
    let matrix = cluster
        .matrix()
        .all_pods()
        .probes(whole(FITS))
        .probes(whole(FITS + 1))
        .probes(large(FITS + 1))
        .expect_each(of_the_seed(&cluster).await?)
        .expect_where(
            |question| question.probe.dont_fragment && question.probe.size > FITS,
            Expectation::failing(Failure::TooBig),
        )
        .prove()
        .await?;
    assert_eq!(matrix.checks.len(), 12 * 6);
    println!("{matrix}");
    Ok(())
}

/// Proves that the address under which a server sees its client is checked, for every protocol: it
/// is what policies and logs go by.
#[rstest]
#[case::a_pool_that_hides_its_pods(true)]
#[case::a_pool_that_shows_them(false)]
#[podlab::test]
async fn the_source_that_an_outside_server_sees_is_checked(#[case] nat: bool) -> Result<()> {
    let mut spec = seed::spec();
    spec.pools[0].nat_outgoing = nat;
    let cluster = spec.boot().await?;
    let gateway = gateway(&cluster).await?;
    // The way back to pods that show themselves; the world outside has none.
    for node in cluster.nodes() {
        let block = node.blocks()[0];
        run(
            cluster.fabric(),
            &format!("ip route add {block} via {}", node.address()),
        )
        .await?;
    }
    let seen = move |question: &Question<'_>| {
        let pod = question.from.pod()?.address();
        let node = question.from.node()?.address();
        Some(
            Expectation::reachable()
                .source(if nat { node } else { pod })
                .ttl(63),
        )
    };
    let ask = || {
        let outside = Peer::machine(cluster.fabric(), gateway).named("outside");
        cluster.matrix().from(cluster.pods()).to([outside])
    };
    let matrix = ask().expect_each(seen).prove().await?;
    assert_eq!(matrix.checks.len(), 4 * 4);

    // The other way round it is wrong, and says what was seen.
    let wrong = ask()
        .expect_each(move |question| {
            let pod = question.from.pod()?.address();
            let node = question.from.node()?.address();
            Some(Expectation::reachable().source(if nat { pod } else { node }))
        })
        .deadline(SHORT)
        .run()
        .await?;
    assert_eq!(wrong.wrong_pairs().len(), 4, "{wrong}");
    assert!(
        wrong
            .wrong()
            .all(|check| check.wrong == [Difference::Source]),
        "{wrong}"
    );
    let pod = cluster.pod(TEST_TOOLS)?;
    let actual = if nat {
        pod.node().address()
    } else {
        pod.address()
    };
    let check = wrong
        .between(TEST_TOOLS, "outside")
        .next()
        .context("no check")?;
    assert_eq!(check.actual.sources, [actual], "{wrong}");
    Ok(())
}

/// Proves that whoever is outside of the cluster has cells as well, whether he serves or refuses,
/// and that one who does not do what is expected of him is the cell that is wrong.
#[podlab::test]
async fn outsiders_that_serve_and_refuse_are_cells_of_a_matrix() -> Result<()> {
    const PORT: u16 = 8088;
    let mut spec = seed::spec();
    spec.pools[0].nat_outgoing = true;
    let cluster = spec.boot().await?;
    let (open, shut) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2));
    let world = cluster.fabric();
    run(
        world,
        &format!("ip address add {open}/32 dev lo; ip address add {shut}/32 dev lo"),
    )
    .await?;
    let _server = world.serve_http(PORT, hello("outside"))?;
    let refuse = format!(
        "nft 'table ip shut {{ chain input {{ type filter hook input priority 0; \
         ip daddr {shut} tcp dport {PORT} reject with tcp reset; }}; }}'"
    );
    run(world, &refuse).await?;
    let at = |name: &str, address| {
        let peer = Peer::outside(name, address);
        peer.tcp_port(PORT).http_port(PORT, "/")
    };
    let ask = || {
        let outsiders = [at("serves", open), at("refuses", shut)];
        let matrix = cluster.matrix().from(cluster.pods()).to(outsiders);
        matrix.protocols([Icmp, Tcp, Http])
    };
    let matrix = ask()
        .expect_each(|question| {
            // Whoever refuses connections answers pings all the same.
            let refuses = question.to.name() == "refuses" && question.probe.protocol != Icmp;
            Some(match refuses {
                true => Expectation::failing(Failure::Refused),
                false => Expectation::reachable(),
            })
        })
        .prove()
        .await?;
    assert_eq!(matrix.to, ["serves", "refuses"]);
    assert_eq!(matrix.checks.len(), 4 * 2 * 3);
    let served = matrix
        .checks
        .iter()
        .filter(|check| check.actual.answered == 1);
    assert_eq!(served.count(), 4 * (3 + 1), "{matrix}");

    // Whoever expects an answer of both sees one column that is wrong.
    let wrong = ask().deadline(SHORT).run().await?;
    let pods = cluster.pods();
    let pairs: Vec<_> = pods.iter().map(|pod| (pod.name(), "refuses")).collect();
    assert_eq!(wrong.wrong_pairs(), pairs, "{wrong}");
    assert_eq!(wrong.wrong().count(), 4 * 2, "{wrong}");
    let told = format!(
        "{TEST_TOOLS} → refuses: tcp 56, http 56\n  expected  reachable\n  actual    no answer: refused"
    );
    assert!(wrong.to_string().contains(&told), "{wrong}");
    Ok(())
}

/// The address of the world outside.
async fn gateway(cluster: &Cluster) -> Result<Ipv4Addr> {
    let addresses = cluster.fabric().addresses().await?;
    let mut addresses = addresses.iter().map(|own| own.address.addr());
    let gateway = addresses.find(|address| !address.is_loopback());
    gateway.context("the fabric has no address")
}

/// Proves that lost packets are counted exactly, and that a bound on them and on the latency is
/// one: a link that loses every tenth packet still answers pings.
#[podlab::test]
async fn bounds_on_loss_and_latency_are_checked() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let ask = |expectation: Expectation| {
        let pair = cluster.matrix().from([&from]).to([&to]).protocols([Icmp]);
        pair.expect(expectation)
            .answer_within(Duration::from_millis(100))
            .deadline(SHORT)
    };
    ask(Expectation::reachable().lost(0..=0, 50))
        .deadline(LONG)
        .prove()
        .await?;
    let slow = ask(Expectation::reachable().within(Duration::from_nanos(1)))
        .run()
        .await?;
    assert!(
        slow.wrong()
            .all(|check| check.wrong == [Difference::Latency]),
        "{slow}"
    );
    assert_eq!(slow.wrong().count(), 1);
    let quick = Expectation::reachable().within(Duration::from_secs(1));
    ask(quick).deadline(LONG).prove().await?;

    run(
        &to,
        "nft add table ip t && nft 'add chain ip t in { type filter hook input priority 0; }'",
    )
    .await?;
    run(
        &to,
        "nft 'add rule ip t in icmp type echo-request numgen inc mod 10 == 9 drop'",
    )
    .await?;
    let exact = ask(Expectation::reachable().lost(5..=5, 50))
        .prove()
        .await?;
    assert_eq!(
        (exact.checks[0].actual.answered, exact.checks[0].actual.sent),
        (45, 50)
    );
    ask(Expectation::reachable().lost(0..=5, 50))
        .prove()
        .await?;
    for bound in [0..=4, 6..=9] {
        let wrong = ask(Expectation::reachable().lost(bound, 50)).run().await?;
        assert!(
            wrong.wrong().all(|check| check.wrong == [Difference::Lost]),
            "{wrong}"
        );
        assert_eq!(wrong.wrong().count(), 1);
    }
    Ok(())
}

/// Proves that a cluster that still converges is waited for, and that what is gone in the end does
/// not count: nobody wants to sleep before a check.
#[podlab::test]
async fn a_cluster_that_converges_is_waited_for() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let worker = cluster.node(WORKER_1)?;
    worker.kill_agent().await?;
    worker.delete_route("192.168.2.0/24".parse()?).await?;
    let matrix = cluster
        .matrix()
        .all_pods()
        .protocols([Icmp, Udp])
        .answer_within(Duration::from_millis(100))
        .expect_each(of_the_seed(&cluster).await?)
        .prove();
    let repair = async {
        // Not before the matrix has seen it broken.
        let mut events = cluster.events().subscribe();
        while !matches!(&events.recv().await?.kind, Kind::MatrixRound { wrong, .. } if *wrong > 0) {
        }
        worker.start_agent().await?;
        Ok::<_, anyhow::Error>(())
    };
    let (matrix, repaired) = tokio::join!(matrix, repair);
    repaired?;
    let matrix = matrix?;
    assert!(matrix.rounds > 1, "{matrix}");
    assert_eq!(matrix.wrong().count(), 0);
    Ok(())
}

/// Proves that a matrix that cannot be asked says everything that is wrong with it, and that one
/// that was never asked is a failure: neither may pass for a proof.
#[podlab::test]
async fn a_matrix_that_proves_nothing_is_a_failure() -> Result<()> {
    let cluster = seed::boot().await?;
    let error = cluster
        .matrix()
        .all_pods()
        .to([Peer::outside("moon", Ipv4Addr::new(10, 99, 0, 1))])
        .protocols([Udp])
        .expect_between(TEST_TOOLS, "nobody", Expectation::unreachable())
        .expect_between(TEST_TOOLS, DEMO, Expectation::unreachable().ttl(62))
        .run()
        .await
        .expect_err("it cannot be asked")
        .to_string();
    let faults = [
        "udp 56: moon is outside, and no port is named",
        "the rule \"from test-tools to nobody\" applies to nothing",
        "test-tools → c2c-network-demo: udp 56: unreachable, ttl 62: what is unreachable has no",
    ];
    for fault in faults {
        assert!(error.contains(fault), "{fault:?} is not in {error}");
    }
    let failed = |cluster: &Cluster| {
        let events = cluster.events().all();
        let failed = |kind: &Kind| matches!(kind, Kind::AssertionFailed { .. });
        events.iter().filter(|event| failed(&event.kind)).count()
    };
    assert_eq!(failed(&cluster), 0);
    // On another thread, where it cannot make this test fail.
    let matrix = cluster.matrix().all_pods();
    let dropped = tokio::task::spawn_blocking(|| drop(matrix)).await;
    assert!(dropped.is_err_and(|error| error.is_panic()));
    assert_eq!(failed(&cluster), 1);
    Ok(())
}
