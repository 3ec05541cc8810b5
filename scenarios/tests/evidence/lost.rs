//! Probes that are lost in ways that are not in the table of sabotages.

use anyhow::{Context, Result};
use podlab::process::Program;
use podlab::trace::{Cause, Diagnosis, Leg, Verdict};
use podlab::{Cluster, Machine};
use podlab_scenarios::sabotage::freeze::Frozen;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1, WORKER_2};

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
