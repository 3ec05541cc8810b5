//! One TCP stream and small packets from pod to pod, by every way there is.

use std::time::Duration;

use anyhow::{Context, Result};
use podlab::agent::PodlabAgent;
use podlab::process::Program;
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Node, Pod};
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS, WORKER_1, WORKER_2};
use serde_json::Value;

use super::results::{Results, median};

pub(crate) const NAME: &str = "stream";
/// Rounds; ways take turns within a round, so that a busy moment hits all of them.
const ROUNDS: usize = 9;
const SECONDS: &str = "1";
/// How long a server may take to begin or to end.
const SOON: Duration = Duration::from_secs(5);
/// Payloads of the UDP packets: small ones, and such as fill the MTU. The latter say what the machine
/// makes of packets that nobody may join to super-packets.
const PACKETS: [&str; 2] = ["64", "1400"];

/// What a backend's stream shall be at least, as a part of no encapsulation and of VXLAN. The kernel's
/// own tunnel is what it is, and a program that carries packets has no rank among kernels' tunnels.
fn goals(backend: &str) -> [f64; 2] {
    match backend {
        "ebpf" => [0.9, 1.0],
        "userspace" => [0.3, 0.0],
        _ => [0.0, 0.0],
    }
}

/// A way between the pods, beside the tunnel that the agents made.
struct Way {
    name: &'static str,
    /// The next hop and the device, from worker-1 to worker-2 and back; `None`: the tunnel.
    routes: Option<[&'static str; 2]>,
}

const WAYS: [Way; 3] = [
    Way {
        name: "no encapsulation",
        routes: Some(["10.12.22.3 dev ens192", "10.12.22.2 dev ens192"]),
    },
    Way {
        name: "kernel VXLAN",
        routes: Some(["10.99.0.2 dev vx0", "10.99.0.1 dev vx0"]),
    },
    Way {
        name: "IPIP",
        routes: None,
    },
];

/// Measures for each backend that this kernel offers.
pub(crate) async fn run(results: &mut Results) -> Result<()> {
    for backend in BACKENDS {
        if let Some(cluster) = boot(seed::spec(), backend).await? {
            measure(&cluster, backend, results).await.context(backend)?;
        }
    }
    Ok(())
}

pub(super) const BACKENDS: [&str; 3] = ["kernel", "ebpf", "userspace"];

/// Boots with this backend in every node. Not every kernel has every backend: which ones are left
/// out, and why, is said; whatever else is wrong fails.
pub(super) async fn boot(spec: ClusterSpec, backend: &str) -> Result<Option<Cluster>> {
    let agent = PodlabAgent::with_encapsulation(backend);
    let booted = podlab_scenarios::backend::try_boot(spec, agent, backend).await;
    match booted.with_context(|| backend.to_owned())? {
        Ok(cluster) => Ok(Some(cluster)),
        Err(lacking) => {
            println!("{backend}: left out: {}", lacking.why);
            Ok(None)
        }
    }
}

async fn measure(cluster: &Cluster, backend: &str, results: &mut Results) -> Result<()> {
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let (one, two) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    vxlan(&one, "10.99.0.1/24", "10.12.22.2", "10.12.22.3").await?;
    vxlan(&two, "10.99.0.2/24", "10.12.22.3", "10.12.22.2").await?;
    let mut streams = [const { Vec::new() }; WAYS.len()];
    let mut packets = [const { [const { Vec::new() }; WAYS.len()] }; PACKETS.len()];
    for _ in 0..ROUNDS {
        for (index, way) in WAYS.iter().enumerate() {
            take(way, &one, &two, &from, &to).await?;
            streams[index].push(iperf(&from, &to, &[]).await?.0);
            for (size, samples) in PACKETS.iter().zip(&mut packets) {
                let udp = ["-u", "-b", "0", "-l", size];
                samples[index].push(iperf(&from, &to, &udp).await?.1);
            }
        }
    }
    let [plain, vxlan, ipip] = streams.map(|mut samples| median(&mut samples));
    let mut compare = |what: &str, unit: &str, ipip: f64, others: [f64; 2], goals: [f64; 2]| {
        for ((other, way), goal) in others.into_iter().zip(&WAYS).zip(goals) {
            let name = format!("{what}, {backend}, against {}", way.name);
            results.add_at_least(name, unit, ipip, (other, way.name), goal);
        }
    };
    let others = [plain, vxlan];
    compare("one TCP stream", "Gbit/s", ipip, others, goals(backend));
    for (size, samples) in PACKETS.iter().zip(packets) {
        let [plain, vxlan, ipip] = samples.map(|mut samples| median(&mut samples));
        let what = format!("packets of {size} bytes");
        compare(&what, "kpps", ipip, [plain, vxlan], [0.0, 0.0]);
    }
    Ok(())
}

async fn vxlan(node: &Node, address: &str, local: &str, remote: &str) -> Result<()> {
    for line in [
        format!("ip link add vx0 type vxlan id 42 dstport 4789 local {local} remote {remote}"),
        format!("ip address add {address} dev vx0"),
        "ip link set vx0 up".to_owned(),
    ] {
        node.exec(line.as_str()).await?.success()?;
    }
    Ok(())
}

/// Leads the packets between the pods the given way, both directions, by routes of an
/// administrator that are more specific than the agent's.
async fn take(way: &Way, one: &Node, two: &Node, from: &Pod, to: &Pod) -> Result<()> {
    let ends = [(one, to), (two, from)];
    for (index, (node, pod)) in ends.into_iter().enumerate() {
        let destination = pod.address();
        let line = match way.routes {
            Some(routes) => {
                format!(
                    "ip route replace {destination}/32 via {} proto static",
                    routes[index]
                )
            }
            None => format!("ip route flush {destination}/32 proto static"),
        };
        node.exec(line.as_str()).await?.success()?;
    }
    Ok(())
}

/// Runs iperf3 between the pods; returns Gbit/s and thousands of packets per second received.
pub(super) async fn iperf(from: &Pod, to: &Pod, options: &[&str]) -> Result<(f64, f64)> {
    let mut server = to.spawn("iperf3 --server --one-off --forceflush")?;
    server
        .wait_for_line(|line| line.contains("listening on"), SOON)
        .await?;
    let client = Program::new("iperf3")
        .args(["--json", "--time", SECONDS, "--client"])
        .arg(to.address().to_string())
        .args(options);
    let report: Value = serde_json::from_str(&from.exec(client).await?.success()?.stdout)?;
    // The next one wants its port.
    server.wait(SOON).await?;
    let end = &report["end"];
    let received = if options.contains(&"-u") {
        &end["sum"]
    } else {
        &end["sum_received"]
    };
    let bits = received["bits_per_second"]
        .as_f64()
        .context("no rate in iperf3's report")?;
    let packets = received["packets"].as_f64().unwrap_or(0.0);
    let lost = received["lost_packets"].as_f64().unwrap_or(0.0);
    let seconds = received["seconds"].as_f64().unwrap_or(1.0);
    Ok((bits / 1e9, (packets - lost) / seconds / 1e3))
}
