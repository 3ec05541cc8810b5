//! Five seeds of the many.

use anyhow::Result;
use podlab_scenarios::chaos::Ordeal;
use rstest::rstest;

/// Proves that faults that come in any order and overlap leave nothing behind: the cluster is as
/// before once they are healed, pods whose path they did not touch lose nothing, and agents live.
#[rstest]
#[podlab::test]
async fn a_cluster_survives_chaos(#[values(1, 2, 3, 4, 5)] seed: u64) -> Result<()> {
    println!("{}", Ordeal::of_seed(seed).endure().await?);
    Ok(())
}
