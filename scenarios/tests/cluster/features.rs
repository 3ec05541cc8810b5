//! What a test may ask a kernel for, against what other programs find there.

use anyhow::Result;
use podlab::process::Program;
use podlab::suite::Feature;
use podlab_scenarios::seed::{self, WORKER_1};
use rstest::rstest;

/// Proves that a probe says yes exactly where the feature can be used. One that is wrong would
/// skip tests that could run, or let them fail for a kernel's sake.
#[rstest]
#[case::netem(Feature::Netem, "tc qdisc add dev lo root netem delay 1ms")]
#[case::ipip(Feature::Ipip, "ip link add other type ipip remote 10.0.0.1")]
#[case::userns(
    Feature::Userns,
    // In a sandbox of an ordinary user there is nobody else to become.
    "N='setpriv --reuid 65534 --regid 65534 --clear-groups'; $N true || N=; $N unshare --user --net true"
)]
#[podlab::test]
async fn a_feature_is_where_it_can_be_used(
    #[case] feature: Feature,
    #[case] use_it: &str,
) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let output = node.exec(Program::new("sh").args(["-c", use_it])).await?;
    let probe = feature.probe();
    assert_eq!(
        probe.is_ok(),
        output.status.success(),
        "the probe: {probe:?}; {use_it}: {}",
        output.stderr
    );
    Ok(())
}

/// Proves that a test which needs a feature is not run where that is missing.
#[podlab::test(needs = "netem")]
fn a_test_that_needs_netem_runs_where_it_is() {
    assert_eq!(Feature::Netem.probe(), Ok(()));
}

/// Proves that every one of several features is asked for.
#[podlab::test(needs = ["bpf", "userns", "netem", "ipip"])]
fn a_test_that_needs_several_runs_where_all_are() {
    for name in ["bpf", "userns", "netem", "ipip"] {
        let feature = Feature::named(name);
        assert_eq!(feature.probe(), Ok(()));
    }
}
