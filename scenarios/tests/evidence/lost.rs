//! Probes that are lost in ways that are not in the table of sabotages.

use anyhow::{Context, Result};
use podlab::netlink::RouteAnswer;
use podlab::probe::server::hello;
use podlab::process::Program;
use podlab::spec::Encapsulation;
use podlab::trace::{Cause, Diagnosis, Leg, Verdict};
use podlab::{Cluster, Machine};
use podlab_scenarios::sabotage::freeze::Frozen;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1, WORKER_2};
use rstest::rstest;

async fn run(machine: &Machine, script: &str) -> Result<()> {
    let program = Program::new("sh").args(["-ec", script]);
    machine.exec(program).await?.success()?;
    Ok(())
}

/// Traces between the seed's pods, which must fail on this leg.
async fn diagnose(cluster: &Cluster, leg: Leg) -> Result<Diagnosis> {
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let trace = cluster.trace(&from, &to).await?;
    anyhow::ensure!(trace.verdict() == Verdict::Lost(leg), "{trace}");
    Ok(trace.diagnosis().context("no diagnosis")?.clone())
}

/// If this fails, a packet that a pod's own filter drops is looked for between the nodes.
#[podlab::test]
async fn a_filter_in_the_receiving_pod_is_named() -> Result<()> {
    let cluster = seed::boot().await?;
    let pod = cluster.pod(DEMO_W2)?;
    let rule = "nft 'table ip guard { chain input { type filter hook input priority 0; \
                icmp type echo-request drop; }; }'";
    run(&pod, rule).await?;
    let diagnosis = diagnose(&cluster, Leg::Back).await?;
    assert_eq!(diagnosis.machine, DEMO_W2);
    let Cause::Filtered(verdict) = &diagnosis.cause else {
        panic!("{diagnosis}");
    };
    assert_eq!(
        (verdict.table.as_str(), verdict.chain.as_str()),
        ("ip guard", "input")
    );
    assert!(
        verdict.rule.contains("icmp type echo-request drop"),
        "{verdict}"
    );
    // What the trace has put in is gone.
    let rules = pod.exec("nft list tables").await?.success()?.stdout;
    assert_eq!(rules.trim(), "table ip guard");
    Ok(())
}

/// If this fails, somebody who has pulled a cable is sent to look at routes.
#[podlab::test]
async fn a_pulled_cable_is_named() -> Result<()> {
    let cluster = seed::boot().await?;
    // Known neighbours do not hide it.
    cluster
        .pod(TEST_TOOLS)?
        .ping(&cluster.pod(DEMO_W2)?)
        .await?;
    let port = cluster.node(WORKER_2)?.fabric_port();
    cluster.fabric().set_link_up(&port, false).await?;
    let diagnosis = diagnose(&cluster, Leg::There).await?;
    let Cause::LinkDown { device } = &diagnosis.cause else {
        panic!("{diagnosis}");
    };
    assert_eq!(device.to_string(), format!("fabric/{port}"));
    Ok(())
}

/// If this fails, a node that distrusts a source is taken for one without a route.
#[podlab::test]
async fn the_reverse_path_check_is_named() -> Result<()> {
    let cluster = seed::boot().await?;
    let (near, far) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let _frozen = Frozen::freeze(far.agent_id().context("an agent runs")?)?;
    let block = near.blocks()[0];
    // The way back leads around the tunnel, so nothing may come in by it.
    run(
        &far,
        &format!(
            "echo 1 > /proc/sys/net/ipv4/conf/{TUNNEL}/rp_filter; \
             ip route replace {block} via {} dev {UNDERLAY} onlink",
            near.address()
        ),
    )
    .await?;
    let diagnosis = diagnose(&cluster, Leg::There).await?;
    assert_eq!(diagnosis.machine, WORKER_2);
    let device = TUNNEL.to_owned();
    assert_eq!(
        diagnosis.cause,
        Cause::ReversePath { device },
        "{diagnosis}"
    );
    Ok(())
}

/// The seed's cluster with plain routing, in which the sender's node has no route to the block of
/// the other, and its agent does not put it right.
async fn without_the_route() -> Result<(Cluster, Frozen)> {
    let mut spec = seed::spec();
    spec.pools[0].encapsulation = Encapsulation::Never;
    let cluster = spec.boot().await?;
    let (near, far) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let frozen = Frozen::freeze(near.agent_id().context("an agent runs")?)?;
    near.delete_route(far.blocks()[0]).await?;
    Ok((cluster, frozen))
}

/// If this fails, plain routing hides a missing route: the packet leaves by the same device, to the
/// default gateway, and looks as if only a hardware address was wrong.
#[podlab::test]
async fn a_missing_route_is_named_where_nothing_is_encapsulated() -> Result<()> {
    let (cluster, _frozen) = without_the_route().await?;
    let far = cluster.node(WORKER_2)?;
    let diagnosis = diagnose(&cluster, Leg::There).await?;
    assert_eq!(diagnosis.machine, WORKER_1, "{diagnosis}");
    let Cause::RouteMissing { block, instead } = &diagnosis.cause else {
        panic!("{diagnosis}");
    };
    assert_eq!(*block, far.blocks()[0]);
    let RouteAnswer::Forward {
        device, gateway, ..
    } = instead
    else {
        panic!("{diagnosis}");
    };
    assert_eq!(device, UNDERLAY);
    assert_eq!(
        gateway.map(|gateway| gateway.to_string()).as_deref(),
        Some("10.12.0.1")
    );
    let before = diagnosis.stretch.before.as_ref().map(ToString::to_string);
    assert_eq!(before, Some(format!("{WORKER_1}/{UNDERLAY}")));
    let told = diagnosis.to_string();
    assert!(
        told.contains("; its packets take 0.0.0.0/0 via 10.12.0.1 dev"),
        "{told}"
    );
    Ok(())
}

/// If this fails, whoever has a rule that refuses is sent to look at routes, which are all right.
/// One that is for a pod as a sender also keeps the node from answering it for its gateway.
#[rstest]
#[podlab::test]
async fn a_rule_that_refuses_is_named(
    #[values("prohibit", "unreachable", "blackhole")] action: &str,
    #[values("from 192.168.1.12", "from all to 192.168.2.6")] whom: &str,
) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    run(&node, &format!("ip rule add priority 100 {whom} {action}")).await?;
    let diagnosis = diagnose(&cluster, Leg::There).await?;
    assert_eq!(diagnosis.machine, WORKER_1, "{diagnosis}");
    let Cause::RuleRefuses { rule } = &diagnosis.cause else {
        panic!("{}", diagnosis.explanation());
    };
    assert_eq!(rule.to_string(), format!("100: {whom}/32 {action}"));
    let before = diagnosis.stretch.before.as_ref().map(ToString::to_string);
    let expected = match whom.starts_with("from all") {
        true => format!("{WORKER_1}/{TUNNEL}"),
        false => format!("{TEST_TOOLS}/eth0"),
    };
    assert_eq!(before, Some(expected), "{diagnosis}");
    Ok(())
}

/// If this fails, a drop that leaves nothing but a counter stays unexplained: a SYN for which a
/// full listener has no room vanishes without an answer, a route or a filter being wrong.
#[podlab::test]
async fn a_counter_that_moved_is_the_cause_where_nothing_else_explains() -> Result<()> {
    const PORT: u16 = 81;
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    // No room for connections that are not established.
    let full = "cd /proc/sys/net/ipv4; echo 0 > tcp_syncookies; echo -4 > tcp_max_syn_backlog";
    run(&to, full).await?;
    let _server = to.serve_http(PORT, hello("nobody"))?;
    let trace = cluster.trace(&from, &to).tcp(PORT).await?;
    assert_eq!(trace.verdict(), Verdict::Lost(Leg::Back), "{trace}");
    let diagnosis = trace.diagnosis().context("no diagnosis")?;
    assert_eq!(diagnosis.machine, DEMO_W2);
    let Cause::Counted { moved } = &diagnosis.cause else {
        panic!("{trace}");
    };
    // The SYN that was sent while the counters were looked at, and nothing that is no loss.
    let told = moved
        .iter()
        .map(|moved| format!("{} +{}", moved.counter, moved.by));
    let told: Vec<String> = told.collect();
    assert_eq!(told, ["TcpExt.ListenDrops +1"], "{trace}");
    assert!(trace.to_string().contains(&told[0]), "{trace}");
    Ok(())
}

/// If this fails, what only the kernel knows stays unknown: here a program at a port's tc hook
/// drops everything. For root only, who alone may listen to the kernel's drop reasons.
#[podlab::test]
async fn the_kernels_own_reason_is_told_where_nothing_else_explains() -> Result<()> {
    if !nix::unistd::Uid::effective().is_root() || !in_the_hosts_user_namespace()? {
        podlab::suite::skip("drop-reasons", "only the host's root hears of them");
    }
    let cluster = seed::boot().await?;
    cluster
        .pod(TEST_TOOLS)?
        .ping(&cluster.pod(DEMO_W2)?)
        .await?;
    let port = cluster.node(WORKER_1)?.fabric_port();
    // One instruction: return TC_ACT_SHOT.
    let drop_all = format!(
        "tc qdisc add dev {port} clsact; \
         tc filter add dev {port} ingress bpf da bytecode '1,6 0 0 2,'"
    );
    run(cluster.fabric(), &drop_all).await?;
    let diagnosis = diagnose(&cluster, Leg::There).await?;
    let expected = Cause::Dropped {
        reason: "TC_INGRESS".to_owned(),
    };
    assert_eq!(diagnosis.cause, expected, "{}", diagnosis.explanation());
    Ok(())
}

/// Whether every user of the host is one here: else this is a namespace of an ordinary user.
fn in_the_hosts_user_namespace() -> Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
}
