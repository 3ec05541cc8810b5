//! Whose routes are whose.

use anyhow::Result;
use podlab_scenarios::seed::{self, WORKER_1};
use rstest::rstest;

use crate::program::{routes_are, ttl};

/// If this fails, what a routing daemon left behind stands in the way of the agent's routes, or
/// an administrator loses his.
#[rstest]
#[case::while_it_runs(true)]
#[case::before_it_starts(false)]
#[tokio::test]
async fn item_10_stray_bird_routes_go_and_static_ones_stay(#[case] runs: bool) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let add = "ip route add 203.0.113.0/24 via 10.12.22.3 dev tunl0 onlink proto static";
    node.exec(add).await?.success()?;
    let wanted = node.routes().await?;
    assert!(
        wanted
            .iter()
            .any(|r| r.destination.to_string() == "203.0.113.0/24")
    );
    if !runs {
        node.stop_agent().await?;
    }
    for stray in [
        // To a wanted destination, by a way that is not the right one.
        "ip route replace 192.168.2.0/24 via 10.12.22.1 dev tunl0 onlink proto bird",
        // To nowhere.
        "ip route add 198.51.100.0/24 via 10.12.22.1 dev tunl0 onlink proto bird",
    ] {
        node.exec(stray).await?.success()?;
    }
    if runs {
        routes_are(&node, &wanted).await?;
    } else {
        assert_ne!(node.routes().await?, wanted);
        node.start_agent().await?;
        assert_eq!(node.routes().await?, wanted);
    }
    assert_eq!(ttl(&cluster).await?, 62);
    Ok(())
}
