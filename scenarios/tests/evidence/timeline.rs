//! What is lost and when: that a timeline finds outages where they are, and none where none are.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use podlab::agent::PodlabAgent;
use podlab::event::Kind;
use podlab::event::Protocol::{self, Icmp, Tcp, Udp};
use podlab::eventually::eventually;
use podlab::patience;
use podlab::process::Program;
use podlab::{Cluster, Machine, Pod};
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, DEMO, DEMO_W2, TEST_TOOLS, WORKER_1};
use rstest::rstest;

async fn boot(encapsulation: &str) -> Result<Cluster> {
    let agent = PodlabAgent::with_encapsulation(encapsulation);
    Ok(backend::boot(seed::spec(), agent, encapsulation).await?)
}

fn ends(cluster: &Cluster) -> Result<(Pod, Pod)> {
    Ok((cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?))
}

/// Runs a script on a machine, which has to succeed.
async fn run(machine: &Machine, script: &str) -> Result<()> {
    let program = Program::new("sh").args(["-c", script]);
    machine.exec(program).await?.success()?;
    Ok(())
}

/// Lets time pass in which the timeline probes: that is what is tested here.
async fn during(time: Duration) -> Result<()> {
    let start = Instant::now();
    let passed = || async {
        match start.elapsed() >= time {
            true => Ok(()),
            false => Err("it has not passed"),
        }
    };
    Ok(eventually("the time passes", time * 100, passed).await?)
}

/// Proves that nothing is reported as lost while nothing happens, at the rates that a timeline is
/// made for: a tool that cries wolf is switched off.
#[rstest]
#[case::a_thousand_a_second_by_ping(Icmp, 1000)]
#[case::a_thousand_a_second_by_udp(Udp, 1000)]
#[case::a_hundred_connections_a_second(Tcp, 100)]
#[podlab::test]
async fn nothing_is_lost_when_nothing_happens(
    #[case] protocol: Protocol,
    #[case] rate: u32,
) -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = ends(&cluster)?;
    let worker = cluster.node(WORKER_1)?;
    let timeline = cluster
        .timeline()
        .pair(&from, &to)
        .pair(&to, &from)
        .pair(&worker, &to)
        .protocol(protocol)
        .rate(rate)
        .start()
        .await?;
    during(Duration::from_secs(1)).await?;
    let outages = timeline.stop().await?;
    println!("{outages}");
    outages.assert_no_loss()?;
    for pair in &outages.pairs {
        // Every slot was used, or is known not to have been.
        let slots = outages.duration.as_secs_f64() * f64::from(rate);
        let known = (pair.sent + pair.skipped) as f64;
        assert!(
            (known - slots).abs() <= 2.0,
            "{known} of {slots}: {outages}"
        );
        assert!(pair.sent as f64 > slots / 10.0, "{outages}");
        assert_eq!((pair.duplicates, pair.overflowed), (0, 0), "{outages}");
        assert!(pair.longest_rtt > Duration::ZERO);
    }
    Ok(())
}

/// Proves that as many probes arrive per second as were asked for, by the target's own count: a
/// timeline at half its rate would see half of the short outages.
#[rstest]
#[case(20)]
#[case(100)]
#[case(500)]
#[podlab::test]
async fn its_rate_is_kept(#[case] rate: u32) -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = ends(&cluster)?;
    count_echoes(&to).await?;
    let begin = Instant::now();
    let timeline = cluster.timeline().pair(&from, &to).rate(rate).cold();
    let timeline = timeline.start().await?;
    during(Duration::from_secs(1)).await?;
    let outages = timeline.stop().await?;
    let most = begin.elapsed();
    outages.assert_no_loss()?;
    let pair = outages.pair(TEST_TOOLS, DEMO_W2)?;
    assert_eq!(pair.sent, echoes(&to).await?, "{outages}");
    assert_eq!(outages.sent(), pair.sent);
    // One probe at the beginning, then one per slot; the test's own clock ran longer.
    let slots = (outages.duration.as_secs_f64() * f64::from(rate)).floor() as u64 + 1;
    let due = pair.sent + pair.skipped;
    assert!(due.abs_diff(slots) <= 1, "{due} of {slots}: {outages}");
    assert!(outages.duration <= most, "{most:?}: {outages}");
    assert!(outages.duration >= Duration::from_millis(500), "{outages}");
    // Skipped are those for which there was no processor, which on a slow machine are many.
    assert!(pair.sent > due / 10, "{outages}");
    if pair.skipped == 0 {
        assert!(pair.longest_gap < 2 * outages.interval, "{outages}");
    }
    Ok(())
}

/// Counts the echo requests that come in.
async fn count_echoes(pod: &Pod) -> Result<()> {
    let table = "nft 'table ip tally { counter echoes { }; \
        chain in { type filter hook input priority 0; icmp type echo-request counter name echoes; \
        }; }'";
    run(pod, table).await
}

/// How many have come.
async fn echoes(pod: &Pod) -> Result<u64> {
    let counters = pod
        .exec("nft list counters table ip tally")
        .await?
        .success()?;
    let (_, rest) = counters
        .stdout
        .split_once("packets ")
        .context("no counter")?;
    Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Proves that thirty pairs at a hundred probes a second are kept by one thread.
#[podlab::test]
async fn thirty_pairs_are_probed_at_once() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let timeline = cluster
        .timeline()
        .among(cluster.pods())
        .pairs(cluster.pods().iter().flat_map(|pod| {
            let nodes = cluster.nodes().into_iter();
            nodes.map(|node| (pod.clone(), node)).collect::<Vec<_>>()
        }))
        .pairs(cluster.nodes().iter().flat_map(|node| {
            let pods = cluster.pods().into_iter().take(2);
            pods.map(|pod| (node.clone(), pod)).collect::<Vec<_>>()
        }))
        .rate(100)
        .start()
        .await?;
    during(Duration::from_secs(1)).await?;
    let outages = timeline.stop().await?;
    assert_eq!(outages.pairs.len(), 30);
    outages.assert_no_loss()?;
    Ok(())
}

/// Proves that an outage is found where it was, as long as it was, after what caused it, and in the
/// pairs that it concerned: the numbers are what a user decides by.
#[rstest]
#[podlab::test]
async fn a_link_that_is_down_is_an_outage_of_that_length(
    #[values(Icmp, Udp)] protocol: Protocol,
) -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = ends(&cluster)?;
    let near = cluster.pod(DEMO)?;
    let timeline = cluster
        .timeline()
        .pair(&from, &to)
        .pair(&from, &near)
        .protocol(protocol)
        .rate(500)
        .start()
        .await?;
    during(Duration::from_millis(300)).await?;
    let port = to.node().fabric_port();
    timeline.mark("the link goes down");
    let before = Instant::now();
    cluster.fabric().set_link_up(&port, false).await?;
    let down = Instant::now();
    during(Duration::from_millis(250)).await?;
    // What the test measures itself: the outage lies between these two.
    let at_least = down.elapsed();
    cluster.fabric().set_link_up(&port, true).await?;
    let at_most = before.elapsed();
    during(Duration::from_millis(300)).await?;
    let outages = timeline.stop().await?;
    println!("{outages}");

    assert_eq!(outages.pair(TEST_TOOLS, DEMO)?.lost, 0, "{outages}");
    let pair = outages.pair(TEST_TOOLS, DEMO_W2)?;
    assert_eq!(pair.outages.len(), 1, "{outages}");
    let outage = &pair.outages[0];
    // Between two probes nothing is known: one gap on each side.
    let gap = pair.longest_gap;
    assert!(outage.length + gap >= at_least, "{at_least:?}: {outages}");
    // A switch's port forwards at once, but a neighbour that was given up is asked for anew.
    let found_again = Duration::from_millis(1100);
    assert!(
        outage.at_least <= at_most + gap + found_again,
        "{at_most:?}: {outages}"
    );
    assert_eq!(outage.lost, pair.lost);
    // A bound is one to the nanosecond, and whoever breaks it is told.
    outages.assert_no_outage_longer_than(outage.length)?;
    let limit = outage.length - Duration::from_nanos(1);
    let error = outages.assert_no_outage_longer_than(limit);
    let error = error.expect_err("it is longer").to_string();
    let expected = format!(
        "not so that no outage is longer than {limit:?}: {TEST_TOOLS} → {DEMO_W2}\ntimeline of 2 pairs"
    );
    assert!(error.starts_with(&expected), "{error}");
    let mark = &outages.marks[outage.after.expect("after the mark")];
    assert_eq!(mark.text, "the link goes down");
    assert!(
        outage.start - mark.at < gap + (down - before) + Duration::from_millis(50),
        "{outages}"
    );
    assert!(outages.assert_no_loss().is_err());
    Ok(())
}

/// Proves that a pair whose sender has no way any more is told why, and that what the kernel
/// refuses to send counts as lost.
#[podlab::test]
async fn what_the_kernel_refuses_to_send_is_lost() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = ends(&cluster)?;
    let timeline = cluster
        .timeline()
        .pair(&from, &to)
        .rate(500)
        .start()
        .await?;
    run(&from, "ip route add unreachable 192.168.2.6/32").await?;
    during(Duration::from_millis(100)).await?;
    run(&from, "ip route del unreachable 192.168.2.6/32").await?;
    let outages = timeline.stop().await?;
    println!("{outages}");
    let pair = outages.pair(TEST_TOOLS, DEMO_W2)?;
    assert_eq!(pair.outages.len(), 1, "{outages}");
    let (error, count) = &pair.errors[0];
    assert!(
        error.contains("the route is of type unreachable"),
        "{outages}"
    );
    assert_eq!(*count, pair.lost, "{outages}");
    Ok(())
}

/// Proves that every lost packet is counted, each alone: a link that loses every tenth packet has
/// no outage that anybody would notice.
#[rstest]
#[case(Icmp, "icmp type echo-request")]
#[case(Udp, "meta l4proto udp")]
#[case(Tcp, "tcp flags & (syn | ack) == syn")]
#[podlab::test]
async fn every_tenth_packet_that_is_lost_is_counted(
    #[case] protocol: Protocol,
    #[case] rule: &str,
) -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = ends(&cluster)?;
    let timeline = cluster
        .timeline()
        .pair(&from, &to)
        .protocol(protocol)
        .rate(200);
    let timeline = timeline.start().await?;
    let table = "nft add table ip t \
        && nft 'add chain ip t in { type filter hook input priority 0; }' \
        && nft 'add counter ip t seen' && nft 'add counter ip t lost'";
    run(&to, table).await?;
    let count = format!(
        "nft 'add rule ip t in {rule} counter name seen \
        numgen inc mod 10 == 9 counter name lost drop'"
    );
    run(&to, &count).await?;
    during(Duration::from_millis(500)).await?;
    let outages = timeline.stop().await?;
    println!("{outages}");
    let pair = outages.pair(TEST_TOOLS, DEMO_W2)?;
    // The kernel's own count.
    let counters = to
        .exec("nft list counters table ip t")
        .await?
        .success()?
        .stdout;
    let packets = |name: &str| -> u64 {
        let (_, rest) = counters.split_once(&format!("counter {name} {{")).unwrap();
        let (_, rest) = rest.split_once("packets ").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert_eq!(pair.lost, packets("lost"), "{counters}{outages}");
    assert!(pair.lost >= 3, "{outages}");
    // So many and not one less, and the message has the numbers.
    outages.assert_lost_at_most(pair.lost)?;
    let bound = pair.lost - 1;
    let error = outages.assert_lost_at_most(bound);
    let error = error.expect_err("more was lost").to_string();
    for told in [
        format!("not so that no pair loses more than {bound} probes: {TEST_TOOLS} → {DEMO_W2}\n"),
        format!(": {} of {} lost\n", pair.lost, pair.sent),
        format!(
            "{TEST_TOOLS} → {DEMO_W2}: {} sent, {} lost, ",
            pair.sent, pair.lost
        ),
    ] {
        assert!(error.contains(&told), "{told:?} is not in {error}");
    }
    assert_eq!(packets("lost"), packets("seen") / 10, "{counters}");
    assert!(
        pair.outages.iter().all(|outage| outage.lost == 1),
        "{outages}"
    );
    Ok(())
}

/// Proves that the agent's crash and restart cost nobody a packet, a thousand pings a second (fewer
/// where the machine is too slow for so many), and that both are marks of the timeline.
#[rstest]
#[podlab::test]
async fn the_agents_crash_costs_no_packet(
    #[values("kernel", "ebpf")] encapsulation: &str,
) -> Result<()> {
    let cluster = boot(encapsulation).await?;
    let (from, to) = ends(&cluster)?;
    let pairs = cluster.timeline().pair(&from, &to).pair(&to, &from);
    let timeline = pairs.rate(patience::slowed(1000)?).start().await?;
    let worker = cluster.node(WORKER_1)?;
    worker.kill_agent().await?;
    during(Duration::from_millis(200)).await?;
    worker.start_agent().await?;
    during(Duration::from_millis(200)).await?;
    let outages = timeline.stop().await?;
    println!("{outages}");
    outages.assert_no_loss()?;
    let marks: Vec<&str> = outages.marks.iter().map(|mark| &*mark.text).collect();
    assert!(marks[0].contains("agent killed"), "{marks:?}");
    assert!(
        marks.iter().any(|mark| mark.contains("agent ready")),
        "{marks:?}"
    );
    Ok(())
}

/// Proves that a timeline begins only when its pairs reach each other, unless it is told to: what
/// never worked is no outage.
#[podlab::test]
async fn a_pair_that_never_answers_is_an_error_or_one_long_outage() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = ends(&cluster)?;
    run(&from, "ip route add blackhole 192.168.2.6/32").await?;
    let cold = cluster.timeline().pair(&from, &to).cold();
    let cold = cold.grace(Duration::from_millis(100)).start().await?;
    during(Duration::from_millis(100)).await?;
    let outages = cold.stop().await?;
    let pair = outages.pair(TEST_TOOLS, DEMO_W2)?;
    assert_eq!(pair.sent, pair.lost);
    assert_eq!(pair.outages.len(), 1);
    assert!(!pair.outages[0].ended);

    let error = cluster.timeline().pair(&from, &to).start().await;
    let error = error.expect_err("nobody answers").to_string();
    assert!(
        error.contains("test-tools → c2c-network-demo-w2: not sent: the route is a blackhole"),
        "{error}"
    );
    Ok(())
}

/// Proves that a timeline whose findings nobody looks at is a failure, and that it ends all the
/// same.
#[podlab::test]
async fn a_timeline_that_nobody_stops_is_a_failure() -> Result<()> {
    let cluster = boot("ebpf").await?;
    let (from, to) = ends(&cluster)?;
    let timeline = cluster.timeline().pair(&from, &to).start().await?;
    // On another thread, where it cannot make this test fail.
    let dropped = tokio::task::spawn_blocking(|| drop(timeline)).await;
    assert!(dropped.is_err_and(|error| error.is_panic()));
    let events = || cluster.events().all();
    assert!(
        events()
            .iter()
            .any(|event| matches!(event.kind, Kind::AssertionFailed { .. }))
    );
    eventually("its thread has ended", Duration::from_secs(5), || async {
        let ended = |kind: &Kind| matches!(kind, Kind::TimelineStopped { .. });
        match events().iter().any(|event| ended(&event.kind)) {
            true => Ok(()),
            false => Err("it probes"),
        }
    })
    .await?;
    Ok(())
}
