//! Nodes that use different backends talk to each other as those that use the same.

use anyhow::Result;
use podlab::Cluster;
use podlab::probe::icmp::PingOptions;
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

/// Proves that small packets, full ones, UDP super-packets and 100 MB of TCP get from one to
/// the other and back unchanged. Prints the streams' rates.
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
        for size in [1, 100, 1000, MTU as u16 - 28] {
            assert_eq!(
                traffic::udp(from, to, size, 20, 20).await?,
                400,
                "{size} bytes"
            );
        }
        let rate = traffic::tcp(from, to, BULK).await?;
        println!("{} to {}: {rate:.2} Gbit/s", way.0, way.1);
    }
    Ok(())
}
