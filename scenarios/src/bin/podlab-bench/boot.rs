//! How long a cluster takes to boot, against the bare kernel cost of its namespaces and links.

use std::time::Instant;

use anyhow::Result;
use podlab::Cluster;
use podlab::spec::ClusterSpec;

use super::results::{Results, median, ms};

pub(crate) const NAME: &str = "boot";
const TIMES: usize = 15;

/// Boots 3 nodes × 2 pods with agents and proves all pairs of pods by a ping.
pub(crate) async fn run(results: &mut Results) -> Result<()> {
    let (mut whole, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let start = Instant::now();
        let cluster = spec().boot().await?;
        prove(&cluster).await?;
        whole.push(ms(start.elapsed()));
        // Of the same boot: what no harness can do without.
        let report = cluster.boot_report();
        bare.push(ms(report.namespaces + report.links));
    }
    results.add(
        "boot 3 nodes × 2 pods, all pairs proven",
        "ms",
        median(&mut whole),
        median(&mut bare),
        "its namespaces, links and routes alone",
    );
    Ok(())
}

fn spec() -> ClusterSpec {
    (1..=3).fold(Cluster::builder(), |spec, node| {
        let name = format!("n{node}");
        let block = format!("192.168.{node}");
        let spec = spec.node(&name, |n| {
            n.address(format!("10.12.22.{node}/16"))
                .block(format!("{block}.0/24"))
        });
        let pod = |pod: podlab::spec::PodBuilder, host: u8| {
            pod.on(&name).address(format!("{block}.{host}"))
        };
        spec.pod(format!("a{node}"), |p| pod(p, 2))
            .pod(format!("b{node}"), |p| pod(p, 3))
    })
}

async fn prove(cluster: &Cluster) -> Result<()> {
    for from in cluster.pods() {
        for to in cluster.pods().iter().filter(|to| to.name() != from.name()) {
            from.ping(to).await?;
        }
    }
    Ok(())
}
