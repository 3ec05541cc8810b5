//! Expectations about packets on real devices.

use std::time::Duration;

use anyhow::{Context, Result};
use podlab::capture::Filter;
use podlab::event::Kind;
use podlab::expect::{ANYBODY, ExpectError, arp, icmp, ip, ipip, tcp};
use podlab::probe::icmp::PingOptions;
use podlab_scenarios::seed::{self, DEMO_W2, HTTP_PORT, TEST_TOOLS, WORKER_1, WORKER_2};
use rstest::rstest;

const SOON: Duration = Duration::from_secs(5);

/// Without it a test could not say in one place what is inside and outside of the tunnel, where,
/// and in which order.
#[rstest]
#[podlab::test]
async fn a_request_is_followed_with_both_headers(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = seed::boot_encapsulated(backend).await?;
    let (n1, n2) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let web = (&b, HTTP_PORT);
    let set = cluster.capture().path(&a, &b).start().await?;
    a.http_get(&b, HTTP_PORT, "/").await?;

    let there = || ipip(&n1, &n2).ttl(63);
    let back = || ipip(&n2, &n1).ttl(63);
    let underlays = [n1.underlay_tap(), n1.fabric_tap(), n2.underlay_tap()];
    set.on(underlays)
        .among(ip(ANYBODY, ANYBODY).or(ipip(ANYBODY, ANYBODY)))
        .first(there().around(tcp(&a, web).syn().ttl(63).mss(1400)))
        .next(back().around(tcp(web, &a).syn().ack().ttl(63)))
        .then(
            there().around(
                tcp(&a, web)
                    .psh()
                    .ack()
                    .payload_begins("GET / HTTP/1.1\r\n"),
            ),
        )
        .then(back().around(tcp(web, &a).psh().ack().payload_contains("Hi from")))
        .exactly(1, tcp(&a, web).syn().at_any_depth())
        .none(ip(&cluster.pods(), ANYBODY).or(ip(ANYBODY, &cluster.pods())))
        .nothing_else_except(there().around(tcp(&a, web)).or(back().around(tcp(web, &a))))
        .within(SOON)
        .await?;
    // Before the tunnel and behind it there is nothing around it, and each node takes one hop.
    for (taps, ttl) in [
        ([a.own_tap(), a.host_tap()], 64),
        ([n1.tunnel_tap(), n2.tunnel_tap()], 63),
        ([b.host_tap(), b.own_tap()], 62),
    ] {
        set.on(Vec::from(taps))
            .expect(tcp(&a, web).syn().ttl(ttl))
            .then(tcp(web, &a).syn().ack().ttl(126 - ttl))
            .none(ipip(ANYBODY, ANYBODY))
            .within(SOON)
            .await?;
    }
    Ok(())
}

/// Without it nobody could tell an expectation that waits from one that looks once.
#[podlab::test]
async fn what_is_awaited_may_come_later_and_what_came_too_early_ends_the_wait() -> Result<()> {
    let cluster = seed::boot().await?;
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let set = cluster.capture().device(&a, "eth0").start().await?;
    let tap = a.own_tap();
    let reply = || icmp(&b, &a).echo_reply().ttl(62);
    set.on(&tap).none(reply()).now()?;
    let early = set.on(&tap).expect(reply()).now();
    assert!(
        matches!(early, Err(ExpectError::NotMet { .. })),
        "{early:?}"
    );

    let awaited = set.on(&tap).expect(reply()).exactly(1, reply());
    let (found, sent) = tokio::join!(awaited.within(SOON), a.ping(&b));
    sent?;
    let found = found?;
    assert_eq!(found.packets().count(), 1);
    // A wait that can only end badly ends at once, though it has an hour.
    let hour = Duration::from_secs(3600);
    let error = set.on(&tap).exactly(0, reply()).within(hour).await;
    assert!(error.is_err(), "{error:?}");
    Ok(())
}

/// Without it a failure would say that something is missing, and not what was there instead.
#[podlab::test]
async fn a_failure_names_the_device_and_the_field_and_is_an_event_about_the_pair() -> Result<()> {
    let cluster = seed::boot().await?;
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let set = cluster.capture().path(&a, &b).start().await?;
    a.ping(&b).await?;
    let wrong = set
        .on(b.own_tap())
        .expect(icmp(&a, &b).echo_request().ttl(63));
    let error = wrong.now().expect_err("two nodes forward").to_string();
    let line = error.lines().find(|line| line.contains('✗'));
    let line: Vec<&str> = line.context("a marked field")?.split_whitespace().collect();
    assert_eq!(line, ["✗", "ip", "ttl", "63", "62"], "{error}");
    assert!(
        error.starts_with("on c2c-network-demo-w2/eth0: expected icmp test-tools > "),
        "{error}"
    );
    assert!(error.contains("192.168.1.12 (test-tools)"), "{error}");

    let events = cluster.events().all();
    let told = events.iter().find_map(|event| match &event.kind {
        Kind::AssertionFailed { pair, found, .. } => Some((pair.clone(), found.clone())),
        _ => None,
    });
    let (pair, found) = told.context("an event")?;
    assert_eq!(pair, Some((TEST_TOOLS.to_owned(), DEMO_W2.to_owned())));
    assert_eq!(found, error);
    Ok(())
}

/// Without it an empty capture would prove that nothing was sent.
#[podlab::test]
async fn a_capture_that_lost_packets_proves_no_absence() -> Result<()> {
    let cluster = seed::boot().await?;
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let capture = cluster.capture().device(&a, "eth0").memory(4000);
    let set = capture.filter(Filter::protocol(1)).start().await?;
    for _ in 0..20 {
        a.ping(&b).await?;
    }
    assert!(set.losses().forgotten > 0, "{}", set.losses());
    let tap = a.own_tap();
    set.on(&tap).expect(icmp(&b, &a).echo_reply()).now()?;
    let error = set.on(&tap).none(arp()).now().expect_err("who knows");
    let words = format!("cannot be told, packets are missing ({})", set.losses());
    assert!(error.to_string().contains(&words), "{error}");
    Ok(())
}

/// Without it a reader could not ask for the kinds of packets that go wrong most often: those
/// that are too large.
#[podlab::test]
async fn fragments_and_the_answer_to_a_packet_that_is_too_large_can_be_told() -> Result<()> {
    let cluster = seed::boot().await?;
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let n1 = cluster.node(WORKER_1)?;
    // The pod believes that longer packets than the tunnel's 1440 bytes go through.
    a.set_link_mtu("eth0", 9000).await?;
    n1.set_link_mtu(&a.host_interface(), 9000).await?;
    let set = cluster.capture().path(&a, &b).start().await?;
    let too_large = |dont_fragment| PingOptions {
        payload: 1472,
        dont_fragment,
        ..PingOptions::default()
    };
    a.ping_with(&b, &too_large(true))
        .await
        .expect_err("too large");
    set.on(a.own_tap())
        .expect(icmp(&a, &b).echo_request().dont_fragment(true).length(1500))
        .then(icmp(ANYBODY, &a).fragmentation_needed(1440))
        .none(icmp(&b, &a))
        .within(SOON)
        .await?;
    set.on(n1.tunnel_tap()).none(icmp(&a, &b)).now()?;

    a.ping_with(&b, &too_large(false)).await?;
    set.on(n1.tunnel_tap())
        .expect(icmp(&a, &b).more_fragments(true).fragment_offset(0))
        .next(
            ip(&a, &b)
                .protocol(1)
                .more_fragments(false)
                .fragment_offset(1416),
        )
        .now()?;
    Ok(())
}
