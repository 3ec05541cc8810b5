//! The way of one packet, as the trace tells it, on networks that work.

use anyhow::Result;
use podlab::agent::PodlabAgent;
use podlab::netlink::RouteAnswer;
use podlab::spec::{ClusterSpec, Encapsulation};
use podlab::trace::{Hop, Trace};
use podlab::{Cluster, Error};
use rstest::rstest;

/// Two nodes in one subnet and a third in another, a pod on each.
fn spec(mode: Encapsulation) -> ClusterSpec {
    Cluster::builder()
        .pool("192.168.0.0/16", |pool| {
            pool.encapsulation(mode).nat_outgoing(true)
        })
        .node("n1", |n| n.address("10.12.0.11/24").block("192.168.1.0/24"))
        .node("n2", |n| n.address("10.12.0.12/24").block("192.168.2.0/24"))
        .node("n3", |n| n.address("10.13.0.13/24").block("192.168.3.0/24"))
        .pod("p1", |p| p.on("n1").address("192.168.1.5").serve_http(8080))
        .pod("q1", |p| p.on("n1").address("192.168.1.6"))
        .pod("p2", |p| p.on("n2").address("192.168.2.5").serve_http(8080))
        .pod("p3", |p| p.on("n3").address("192.168.3.5"))
}

async fn boot(mode: Encapsulation, backend: &str) -> Result<Cluster, Error> {
    let agent = PodlabAgent::with_encapsulation(backend);
    podlab_scenarios::backend::boot(spec(mode), agent, backend).await
}

/// Where the packet was, without the devices that only one backend has.
fn places(hops: &[Hop]) -> Vec<String> {
    let kept = hops.iter().filter(|hop| hop.point.device != "tunl0-x");
    let words = kept.map(|hop| {
        let place = hop.point.to_string();
        let place = place.split("/cali").next().unwrap_or_default().to_owned();
        let (ttl, depth) = (hop.inner().map_or(0, |header| header.ttl), hop.depth());
        format!("{place} {} ttl {ttl} depth {depth}", hop.direction)
    });
    words.collect()
}

fn is_delivered(trace: &Trace) -> Result<()> {
    anyhow::ensure!(trace.is_delivered(), "{trace}");
    Ok(())
}

/// If this fails, the picture that a user gets of a packet's way is not the way it took.
#[rstest]
#[podlab::test]
async fn a_ping_is_followed_through_both_tunnels_and_back(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(Encapsulation::Always, backend).await?;
    let (p1, p2) = (cluster.pod("p1")?, cluster.pod("p2")?);
    let trace = cluster.trace(&p1, &p2).await?;
    is_delivered(&trace)?;
    assert_eq!(
        places(&trace.there),
        [
            "p1/eth0 out ttl 64 depth 0",
            "n1 in ttl 64 depth 0",
            "n1/tunl0 out ttl 63 depth 0",
            "n1/eth0 out ttl 63 depth 1",
            "fabric/n1 in ttl 63 depth 1",
            "fabric/n2 out ttl 63 depth 1",
            "n2/eth0 in ttl 63 depth 1",
            "n2/tunl0 in ttl 63 depth 0",
            "n2 out ttl 62 depth 0",
            "p2/eth0 in ttl 62 depth 0",
        ],
        "{trace}"
    );
    assert_eq!(
        places(&trace.back),
        [
            "p2/eth0 out ttl 64 depth 0",
            "n2 in ttl 64 depth 0",
            "n2/tunl0 out ttl 63 depth 0",
            "n2/eth0 out ttl 63 depth 1",
            "fabric/n2 in ttl 63 depth 1",
            "fabric/n1 out ttl 63 depth 1",
            "n1/eth0 in ttl 63 depth 1",
            "n1/tunl0 in ttl 63 depth 0",
            "n1 out ttl 62 depth 0",
            "p1/eth0 in ttl 62 depth 0",
        ],
        "{trace}"
    );
    // Time goes forward, and what decided is told.
    for leg in [&trace.there, &trace.back] {
        assert!(leg.is_sorted_by_key(|hop| hop.after), "{trace}");
    }
    let told = trace.to_string();
    let both = told.lines().any(|line| {
        line.contains("fabric/n1 ")
            && line.contains("[10.12.0.11 > 10.12.0.12 ttl ")
            && line.contains(" ipip]  [192.168.1.5 > 192.168.2.5 ttl 63 icmp]")
    });
    assert!(both, "{told}");
    assert!(told.contains("\n  and back:\n"), "{told}");
    let route = "route: 192.168.2.0/24 via 10.12.0.12 dev tunl0";
    assert!(told.contains(route), "{told}");
    let mut at_target = trace.there.iter().filter(|hop| hop.point.machine == "n2");
    let to_pod = at_target.any(|hop| {
        let route = hop.decision.as_ref().map(|decision| &decision.route);
        matches!(route, Some(RouteAnswer::Forward { device, gateway: None, .. })
            if device.starts_with("cali"))
    });
    assert!(to_pod, "{told}");
    let at_node = trace.there.iter().find(|hop| hop.point.machine == "n1");
    let decision = at_node.and_then(|hop| hop.decision.as_ref());
    let RouteAnswer::Forward {
        device,
        gateway,
        matched,
    } = &decision.expect("n1 decides").route
    else {
        panic!("{trace}");
    };
    assert_eq!(device, "tunl0");
    assert_eq!(*gateway, Some(cluster.node("n2")?.address()));
    let matched = matched.as_ref().map(|route| route.destination.to_string());
    assert_eq!(matched.as_deref(), Some("192.168.2.0/24"));
    Ok(())
}

/// If this fails, a working network is called broken: every kind of probe between every kind of
/// ends, in every mode.
#[rstest]
#[podlab::test]
async fn whatever_works_is_delivered(
    #[values(
        Encapsulation::Always,
        Encapsulation::CrossSubnet,
        Encapsulation::Never
    )]
    mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(mode, backend).await?;
    let (p1, q1, p2) = (cluster.pod("p1")?, cluster.pod("q1")?, cluster.pod("p2")?);
    let (n1, n2) = (cluster.node("n1")?, cluster.node("n2")?);
    is_delivered(&cluster.trace(&p1, &q1).await?)?;
    is_delivered(&cluster.trace(&p1, &p2).await?)?;
    is_delivered(&cluster.trace(&p1, &p2).tcp(8080).await?)?;
    is_delivered(&cluster.trace(&p1, &p2).tcp(9).await?)?;
    is_delivered(&cluster.trace(&p1, &p2).udp(9).await?)?;
    is_delivered(&cluster.trace(&p1, &p2).size(1480).await?)?;
    is_delivered(&cluster.trace(&p1, &p2).probes(5).await?)?;
    is_delivered(&cluster.trace(&p1, &n1).await?)?;
    is_delivered(&cluster.trace(&n1, &p1).await?)?;
    is_delivered(&cluster.trace(&n1, &n2).await?)?;
    is_delivered(&cluster.trace(&n1, &p2).await?)?;
    is_delivered(&cluster.trace(&p2, &n1).await?)?;
    is_delivered(&cluster.trace(p1.address(), p2.address()).await?)?;
    // Across, where the router between the two networks knows no pods.
    if mode != Encapsulation::Never {
        is_delivered(&cluster.trace(&p1, &cluster.pod("p3")?).await?)?;
    }
    // To the outside the node's own address is put in.
    let gateway = std::net::Ipv4Addr::new(10, 12, 0, 1);
    let outside = cluster.trace(&p1, gateway).await?;
    is_delivered(&outside)?;
    let arrived = outside.there.last().and_then(Hop::inner);
    assert_eq!(arrived.map(|header| header.source), Some(n1.address()));
    Ok(())
}
