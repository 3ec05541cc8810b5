//! Whose routes are whose.

use anyhow::Result;
use podlab::agent::PodlabAgent;
use podlab::eventually::eventually;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, TUNNEL, UNDERLAY, WORKER_1};
use rstest::rstest;

use crate::program::{SOON, routes_are, ttl};

/// If this fails, what a routing daemon left behind stands in the way of the agent's routes, or
/// an administrator loses his.
#[rstest]
#[case::while_it_runs(true)]
#[case::before_it_starts(false)]
#[podlab::test]
async fn item_10_stray_bird_routes_go_and_static_ones_stay(
    #[case] runs: bool,
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let mut spec = seed::spec();
    for pool in &mut spec.pools {
        pool.encapsulation = mode;
    }
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = backend::boot(spec, agent, backend).await?;
    let node = cluster.node(WORKER_1)?;
    // All nodes of the seed are in one subnet.
    let device = if mode == Always { TUNNEL } else { UNDERLAY };
    let add =
        format!("ip route add 203.0.113.0/24 via 10.12.22.3 dev {device} onlink proto static");
    node.exec(add.as_str()).await?.success()?;
    let wanted = node.routes().await?;
    assert!(
        wanted
            .iter()
            .any(|r| r.destination.to_string() == "203.0.113.0/24")
    );
    if !runs {
        node.stop_agent().await?;
    }
    let bird = async |change: &str| {
        let change = format!("ip route {change} via 10.12.22.1 dev {device} onlink proto bird");
        node.exec(change.as_str()).await?.success()?;
        anyhow::Ok(())
    };
    // To a wanted destination, by a way that is not the right one.
    bird("replace 192.168.2.0/24").await?;
    // To nowhere; out of the underlay it would be somebody else's.
    if mode == Always {
        bird("add 198.51.100.0/24").await?;
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

/// If this fails, a CNI plugin that is some seconds ahead of the datastore finds the routes gone
/// that it has just made, or the routes of a pod that never came stay for ever.
#[rstest]
#[case::new("3600", true)]
#[case::not_new_any_more("0.1", false)]
#[podlab::test]
async fn unknown_routes_on_a_new_pod_interface_are_left_alone_for_a_while(
    #[case] grace: &str,
    #[case] stays: bool,
) -> Result<()> {
    const PLUGINS: &str = "192.168.1.99/32";
    const STALE: &str = "192.168.1.98/32";
    let agent = PodlabAgent::new().args(["--route-grace", grace]);
    let cluster = seed::spec().boot_with(agent).await?;
    let node = cluster.node(WORKER_1)?;
    for command in [
        "ip link add cali0123456789a type veth peer name peer",
        "ip link set cali0123456789a up",
        &format!("ip route add {PLUGINS} dev cali0123456789a"),
        // One that bears the agent's own mark has no such time.
        &format!("ip route add {STALE} dev cali0123456789a proto 80"),
    ] {
        node.exec(command).await?.success()?;
    }
    let is_there = async |destination: &str| -> Result<bool> {
        let routes = node.routes().await?;
        let mut routes = routes.iter().map(|route| route.destination.to_string());
        Ok(routes.any(|there| there == destination))
    };
    let goes: &[&str] = if stays { &[STALE] } else { &[STALE, PLUGINS] };
    for destination in goes {
        eventually(format!("{destination} goes"), SOON, || async {
            match is_there(destination).await {
                Ok(false) => Ok(()),
                Ok(true) => Err("it is there".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
    }
    // The agent has looked at the routes since.
    assert_eq!(is_there(PLUGINS).await?, stays);
    assert_eq!(ttl(&cluster).await?, 62);
    Ok(())
}
