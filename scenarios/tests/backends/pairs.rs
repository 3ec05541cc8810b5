//! Nodes that use different backends talk to each other as those that use the same.

use anyhow::Result;
use podlab::Cluster;
use podlab::probe::icmp::PingOptions;
use podlab::suite::{self, Feature};
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, DEMO_W2, MTU, TEST_TOOLS, WORKER_2};
use rstest::rstest;

use crate::agents::Mixed;
use crate::traffic;

const BULK: usize = 100_000_000;

/// Pods on worker 1 with one backend, on worker 2 with the other.
async fn boot(one: &'static str, two: &'static str) -> Result<Cluster> {
    let agents = Mixed::new(WORKER_2, two, one);
    // Were both missing, the first to be reported would do.
    let rare = if two == "kernel" { two } else { one };
    Ok(backend::boot(seed::spec(), agents, rare).await?)
}

/// Proves that UDP datagrams that a pod hands to the kernel as one arrive as those that they were.
///
/// A node with `userspace` has to read what the kernel or a program of the kernel has put into the
/// outer header as one. Among nodes on one kernel, as here, that is still uncut, and kernels before
/// 6.2 do not tell programs how to cut it; between machines a network card has done it.
#[rstest]
#[podlab::test]
async fn udp_super_packets_keep_their_boundaries(
    #[values("kernel", "ebpf", "userspace")] from: &'static str,
    #[values("kernel", "ebpf", "userspace")] to: &'static str,
) -> Result<()> {
    if to == "userspace" && from != "userspace" {
        Feature::Uso
            .probe()
            .unwrap_or_else(|why| suite::skip("uso", why));
    }
    let cluster = boot(from, to).await?;
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    for size in [1, 100, 1000, MTU as u16 - 28] {
        let arrived = traffic::udp(&a, &b, size, 20, 20).await?;
        assert_eq!(arrived, 400, "{size} bytes");
    }
    Ok(())
}

/// Proves that small packets, full ones and 100 MB of TCP get from one to the other and back
/// unchanged. Prints the streams' rates.
#[rstest]
#[podlab::test]
async fn they_carry_everything_to_each_other(
    #[values("kernel", "ebpf", "userspace")] one: &'static str,
    #[values("kernel", "ebpf", "userspace")] two: &'static str,
) -> Result<()> {
    let cluster = boot(one, two).await?;
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    for (from, to, way) in [(&a, &b, (one, two)), (&b, &a, (two, one))] {
        for payload in [0, 1, 56, MTU as usize - 28] {
            let options = PingOptions {
                payload,
                dont_fragment: true,
                ..PingOptions::default()
            };
            assert_eq!(
                from.ping_with(to, &options).await?.ttl,
                62,
                "{payload} bytes"
            );
        }
        let rate = traffic::tcp(from, to, BULK).await?;
        println!("{} to {}: {rate:.2} Gbit/s", way.0, way.1);
    }
    Ok(())
}
