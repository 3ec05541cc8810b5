//! What every backend has in common: the seed's facts, and payload in bulk.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use podlab::Cluster;
use podlab::agent::PodlabAgent;
use podlab::capture::{Capture, Captured, Filter};
use podlab::event::Protocol;
use podlab::matrix::Expectation;
use podlab::packet::TcpFlags;
use podlab::probe::icmp::PingOptions;
use podlab::probe::server::Answer;
use podlab_scenarios::backend;
use podlab_scenarios::seed::{self, DEMO_W2, HTTP_PORT, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1};
use rstest::rstest;

use crate::traffic;

const SOON: Duration = Duration::from_secs(5);

pub(crate) async fn boot(backend: &str) -> Result<Cluster> {
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = backend::boot(seed::spec(), agent, backend).await?;
    for node in cluster.nodes() {
        let status = node.agent_status();
        assert_eq!(status.encapsulation, backend);
    }
    Ok(cluster)
}

/// Proves that every pod reaches every other, and that the tunnel costs no hop.
#[rstest]
#[podlab::test]
async fn every_pair_of_pods_says_ttl_62(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    // An agent that is ready has nothing left to do: one round has to be right.
    let matrix = cluster.matrix().all_pods().deadline(Duration::ZERO);
    matrix
        .answer_within(Duration::from_secs(3))
        .expect_each(|question| {
            let same = question.from.node()?.name() == question.to.node()?.name();
            let ttl = if same { 63 } else { 62 };
            let expected = Expectation::reachable().ttl(ttl);
            Some(match question.probe.protocol {
                Protocol::Icmp => expected.ttl_back(ttl),
                _ => expected,
            })
        })
        .prove()
        .await?;
    Ok(())
}

/// Whether both ends have said FIN.
async fn connection(capture: &Capture) -> Result<Vec<Captured>> {
    let closed = |packets: &[Captured]| {
        let fins = packets.iter().filter(|captured| {
            let tcp = captured.packet.tcp();
            tcp.is_some_and(|tcp| tcp.flags.contains(TcpFlags::FIN))
        });
        (fins.count() == 2).then(|| packets.to_vec())
    };
    Ok(capture.wait_until(closed, SOON).await?)
}

/// Proves what the wire shows of one GET: seven packets without an outer header on the tunnel,
/// and the same seven inside protocol 4, nothing else, on the underlay.
#[rstest]
#[podlab::test]
async fn seven_packets_on_the_tunnel_and_inside_protocol_4(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let (node, target) = (cluster.node(WORKER_1)?, cluster.pod(DEMO_W2)?);
    let peer = target.node().address();
    let tunnel = node.capture(TUNNEL, &Filter::everything())?;
    let underlay = node.capture(UNDERLAY, &Filter::between(node.address(), peer))?;
    let reply = cluster
        .pod(TEST_TOOLS)?
        .http_get(&target, HTTP_PORT, "/")
        .await?;
    assert_eq!(reply.status, 200);

    let inner = connection(&tunnel).await?;
    let outer = connection(&underlay).await?;
    let is_fin = |captured: &Captured| {
        let tcp = captured.packet.tcp();
        tcp.is_some_and(|tcp| tcp.flags.contains(TcpFlags::FIN))
    };
    for (packets, depth) in [(&inner, 0), (&outer, 1)] {
        assert_eq!(
            packets.iter().position(is_fin),
            Some(7),
            "seven, then the end"
        );
        assert!(packets.iter().all(|p| p.packet.ipip_depth() == depth));
    }
    for (inside, outside) in inner.iter().zip(&outer).take(7) {
        assert_eq!(inside.canonical_inner(), outside.canonical_inner());
        let headers: Vec<_> = outside.packet.ipv4_headers().collect();
        let (ip, outer) = (&headers[1], &headers[0]);
        assert_eq!(
            (outer.ttl, outer.dont_fragment),
            (ip.ttl, ip.dont_fragment),
            "as Calico's device has them: {outside}"
        );
        assert!(outer.checksum_correct, "{outside}");
    }
    Ok(())
}

/// Proves that the tunnel carries what the pods are told it does.
#[rstest]
#[podlab::test]
async fn a_ping_of_1440_bytes_with_df_gets_through(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let options = PingOptions {
        payload: seed::MTU as usize - 28,
        dont_fragment: true,
        ..PingOptions::default()
    };
    let target = cluster.pod(DEMO_W2)?;
    let reply = cluster
        .pod(TEST_TOOLS)?
        .ping_with(&target, &options)
        .await?;
    assert_eq!(reply.payload, options.payload);
    Ok(())
}

/// Proves that a page of several megabytes arrives byte by byte, in either direction.
#[rstest]
#[podlab::test]
async fn a_large_page_arrives_unchanged(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
    #[values((TEST_TOOLS, DEMO_W2), (DEMO_W2, TEST_TOOLS))] (from, to): (&str, &str),
) -> Result<()> {
    let cluster = boot(backend).await?;
    let (from, to) = (cluster.pod(from)?, cluster.pod(to)?);
    let page: Vec<u8> = (0..8_000_000u32)
        .map(|i| (i ^ i >> 8 ^ i >> 16) as u8)
        .collect();
    let answer = Answer::html(Default::default(), page.clone());
    let _server = to.serve_http(9000, answer)?;
    let reply = from.http_get(&to, 9000, "/").await?;
    assert!(reply.body == page, "{} bytes arrived", reply.body.len());
    Ok(())
}

/// Proves that the routing table is the single truth: a route that somebody else makes or takes
/// away is followed by the next packet.
#[rstest]
#[podlab::test]
async fn a_route_of_somebody_else_is_followed_at_once(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    const FOREIGN: Ipv4Addr = Ipv4Addr::new(172, 31, 7, 7);
    let cluster = boot(backend).await?;
    let (node, peer) = (cluster.node(WORKER_1)?, cluster.pod(DEMO_W2)?.node());
    let other = cluster
        .nodes()
        .into_iter()
        .find(|n| n.name() == seed::MASTER);
    let other = other.context("the master")?;
    let ip = |arguments: String| {
        let node = node.clone();
        async move {
            node.exec(format!("ip route {arguments}").as_str())
                .await?
                .success()
                .map_err(anyhow::Error::from)
        }
    };
    for gateway in [peer.address(), other.address(), peer.address()] {
        ip(format!(
            "replace {FOREIGN} via {gateway} dev {TUNNEL} onlink proto static"
        ))
        .await?;
        let sent = node.capture(UNDERLAY, &Filter::protocol(4))?;
        // Nobody has the address.
        assert!(node.ping(FOREIGN).await.is_err());
        let packets = sent.stop().await?.packets;
        let to = packets
            .iter()
            .filter_map(|captured| captured.packet.outer_ipv4())
            .find(|outer| outer.source == node.address())
            .map(|outer| outer.destination);
        assert_eq!(to, Some(gateway));
    }
    ip(format!("del {FOREIGN}")).await?;
    let sent = node.capture(TUNNEL, &Filter::host(FOREIGN))?;
    assert!(node.ping(FOREIGN).await.is_err());
    assert_eq!(sent.stop().await?.packets.len(), 0);
    Ok(())
}

/// Proves that UDP super-packets, which the sender's kernel leaves uncut, arrive as the
/// datagrams that they stand for.
#[rstest]
#[podlab::test]
async fn udp_segments_keep_their_boundaries(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    assert_eq!(traffic::udp(&from, &to, 1000, 20, 50).await?, 1000);
    Ok(())
}
