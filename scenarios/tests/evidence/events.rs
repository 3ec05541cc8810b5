//! The event log of a cluster.

use std::time::Duration;

use anyhow::Result;
use podlab::Cluster;
use podlab::capture::Filter;
use podlab::event::{EventLog, Kind};
use podlab::eventually::eventually;
use podlab::expect::arp;
use podlab::spec::ClusterSpec;

fn two_nodes() -> ClusterSpec {
    Cluster::builder()
        .node("n1", |n| n.address("10.0.0.2/24").block("192.168.1.0/24"))
        .node("n2", |n| n.address("10.0.0.3/24").block("192.168.2.0/24"))
        .pod("a", |p| p.on("n1").address("192.168.1.2"))
        .pod("b", |p| p.on("n2").address("192.168.2.2").serve_http(80))
}

/// The events of one machine as a reader sees them, cut before what differs from run to run.
fn of(log: &EventLog, machine: &str) -> Vec<String> {
    let events = log.all();
    let own = events
        .iter()
        .filter(|event| event.machine.as_deref() == Some(machine));
    let words = own.map(|event| {
        let text = event.kind.to_string();
        let end = [" as process", " after ", " in "]
            .iter()
            .filter_map(|word| text.find(word))
            .min();
        text[..end.unwrap_or(text.len())].to_owned()
    });
    words.collect()
}

/// Without it a report would not say what the test did before something failed.
#[podlab::test]
async fn what_was_made_asked_and_changed_is_told_in_order() -> Result<()> {
    let cluster = two_nodes().boot().await?;
    let (a, b) = (cluster.pod("a")?, cluster.pod("b")?);
    a.ping(&b).await?;
    a.http_get(&b, 80, "/").await?;
    a.http_get(&b, 81, "/").await.expect_err("nobody listens");
    let capture = a.capture("eth0", &Filter::protocol(1))?;
    a.ping(&b).await?;
    capture.stop().await?;
    cluster.remove_pod("b").await?;
    let log = cluster.events();

    assert_eq!(
        of(log, "a"),
        [
            "pod created 192.168.1.2 on n1",
            "ping to 192.168.2.2 sent",
            "ping to 192.168.2.2 answered",
            "HTTP to 192.168.2.2:80 sent",
            "HTTP to 192.168.2.2:80 answered",
            "HTTP to 192.168.2.2:81 sent",
            "HTTP to 192.168.2.2:81 failed",
            "ping to 192.168.2.2 sent",
            "ping to 192.168.2.2 answered",
        ]
    );
    assert_eq!(
        of(log, "b"),
        ["pod created 192.168.2.2 on n2", "pod removed"]
    );
    let all: Vec<Kind> = log.all().iter().map(|event| event.kind.clone()).collect();
    let place = |wanted: &dyn Fn(&Kind) -> bool| {
        let found = all.iter().position(wanted);
        found.unwrap_or_else(|| panic!("not among {all:#?}"))
    };
    let order = [
        place(&|kind| matches!(kind, Kind::AgentStarted { .. })),
        place(&|kind| matches!(kind, Kind::AgentReady { .. })),
        place(&|kind| matches!(kind, Kind::Booted { .. })),
        place(&|kind| matches!(kind, Kind::ProbeFailed { error, .. } if error.contains("refused"))),
        place(&|kind| matches!(kind, Kind::CaptureStarted { capture, .. } if capture == "a/eth0")),
        place(&|kind| {
            matches!(
                kind,
                Kind::CaptureStopped {
                    packets: 2,
                    dropped: 0,
                    ..
                }
            )
        }),
        place(&|kind| matches!(kind, Kind::Change { change } if change == "remove pod b")),
        place(
            &|kind| matches!(kind, Kind::DatastoreChanged { file, exists: false } if file == "endpoints/n2/default.b.json"),
        ),
    ];
    assert!(order.is_sorted(), "{order:?} in {all:#?}");
    Ok(())
}

/// What a test does to a machine by hand breaks networks as well as any fault does: a report that
/// does not tell of it blames the agent.
#[podlab::test]
async fn what_a_test_does_by_hand_is_told() -> Result<()> {
    let cluster = two_nodes().boot().await?;
    let n1 = cluster.node("n1")?;
    let before = of(cluster.events(), "n1").len();
    n1.exec("true --really").await?;
    n1.exec("false").await?;
    drop(n1.spawn("sleep 60")?);
    n1.delete_route("192.168.2.0/24".parse()?).await?;
    n1.set_link_mtu("eth0", 1400).await?;
    n1.set_link_up("eth0", false).await?;
    n1.set_link_up("eth0", true).await?;
    assert_eq!(
        of(cluster.events(), "n1")[before..],
        [
            "program started",
            "program ended",
            "program started",
            "program ended",
            "program started",
            "route to 192.168.2.0/24 deleted",
            "MTU of eth0 set to 1400",
            "eth0 set down",
            "eth0 set up",
        ]
    );
    let kinds: Vec<Kind> = cluster
        .events()
        .all()
        .iter()
        .map(|e| e.kind.clone())
        .collect();
    let ended: Vec<(&str, &str)> = kinds
        .iter()
        .filter_map(|kind| match kind {
            Kind::ProgramEnded {
                program, status, ..
            } => Some((program.as_str(), status.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(
        ended,
        [
            ("true --really", "exit status: 0"),
            ("false", "exit status: 1")
        ]
    );
    // Nothing is told of what was not done.
    n1.set_link_mtu("eth9", 1400).await.expect_err("no eth9");
    assert_eq!(of(cluster.events(), "n1").len(), before + 9);
    Ok(())
}

/// What was built to be asserted and never was is an event of its own: the report of the test that
/// fails by it must tell where.
#[podlab::test]
async fn an_expectation_that_is_dropped_is_told() -> Result<()> {
    let cluster = two_nodes().boot().await?;
    let a = cluster.pod("a")?;
    let packets = cluster.capture().machine(&a).no_file().start().await?;
    let forgotten = packets.on(a.tap("eth0")).none(arp());
    // Where no suite is: the drop itself is loud.
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        std::thread::scope(|scope| scope.spawn(|| drop(forgotten)).join())
    }));
    assert!(matches!(dropped, Ok(Err(_))), "it is silent");
    let events = cluster.events().all();
    let told = events.iter().any(|event| {
        matches!(&event.kind, Kind::AssertionFailed { found, .. }
            if found.starts_with("an expectation was never evaluated: on a/eth0: none of arp"))
    });
    assert!(told, "{events:#?}");
    Ok(())
}

/// An agent that crashes while nobody looks is the first thing that a report must name; one that
/// the test itself stops or kills is none of its findings.
#[podlab::test]
async fn an_agent_that_ends_by_itself_is_told_apart_from_one_that_was_stopped() -> Result<()> {
    let cluster = two_nodes().boot().await?;
    let (n1, n2) = (cluster.node("n1")?, cluster.node("n2")?);
    n1.stop_agent().await?;
    n1.start_agent().await?;
    n1.kill_agent().await?;
    let Some(agent) = n2.agent_id() else {
        anyhow::bail!("n2 has no agent");
    };
    n2.exec(format!("kill -ABRT {agent}").as_str())
        .await?
        .success()?;
    eventually(
        "the log tells of the crash",
        Duration::from_secs(5),
        || async {
            let told = of(cluster.events(), "n2");
            let crash = "agent ended by itself: signal: 6 (SIGABRT)";
            match told.iter().any(|event| event.starts_with(crash)) {
                true => Ok(()),
                false => Err(told.join("; ")),
            }
        },
    )
    .await?;
    let agent: Vec<String> = of(cluster.events(), "n1");
    assert_eq!(
        agent[1..],
        [
            "agent started",
            "agent ready",
            "agent stopped",
            "agent started",
            "agent ready",
            "agent killed",
        ]
    );
    Ok(())
}
