//! One TCP stream between pods of different nodes, by every backend and without any.

use anyhow::Result;
use podlab::agent::PodlabAgent;
use podlab::spec::Encapsulation;
use podlab_scenarios::backend as backends;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS};
use rstest::rstest;

use crate::traffic;

const BULK: usize = 400_000_000;
const RUNS: usize = 3;

/// The best of some streams, in Gbit/s.
async fn best(backend: &str, mode: Encapsulation) -> Result<f64> {
    let mut spec = seed::spec();
    for pool in &mut spec.pools {
        pool.encapsulation = mode;
    }
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = backends::boot(spec, agent, backend).await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let mut best = 0.0_f64;
    for _ in 0..RUNS {
        best = best.max(traffic::tcp(&from, &to, BULK).await?);
    }
    Ok(best)
}

/// Prints how fast a stream of 400 MB is, which must arrive unchanged, and the ratio to the one
/// that is not encapsulated.
#[rstest]
#[podlab::test]
async fn one_tcp_stream(#[values("ebpf", "userspace")] backend: &str) -> Result<()> {
    let plain = best(backend, Encapsulation::Never).await?;
    let rate = best(backend, Encapsulation::Always).await?;
    println!(
        "no encapsulation: {plain:.2} Gbit/s; {backend}: {rate:.2} Gbit/s, {:.2} of it",
        rate / plain
    );
    Ok(())
}
