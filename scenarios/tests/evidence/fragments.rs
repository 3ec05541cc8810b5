//! Packets that the kernel changes after a tap has seen them.

use anyhow::Result;
use podlab::Cluster;
use podlab::agent::PodlabAgent;
use podlab::capture::Direction;
use podlab::probe::icmp::PingOptions;
use podlab_scenarios::backend;
use podlab_scenarios::seed::TUNNEL;
use rstest::rstest;

/// If this fails, a capture shows what a packet became later instead of what it was: a router that
/// tracks connections puts fragments together and sends them on in the same memory, with one hop
/// less to live and other hardware addresses.
#[rstest]
#[podlab::test]
async fn fragments_are_kept_as_they_passed(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let spec = Cluster::builder()
        .pool("192.168.0.0/16", |pool| pool)
        .node("n1", |n| n.address("10.12.0.11/24").block("192.168.1.0/24"))
        .node("n2", |n| n.address("10.12.0.12/24").block("192.168.2.0/24"))
        .pod("p1", |p| p.on("n1").address("192.168.1.5"))
        .pod("p2", |p| p.on("n2").address("192.168.2.5"));
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = backend::boot(spec, agent, backend).await?;
    let (p1, p2) = (cluster.pod("p1")?, cluster.pod("p2")?);
    let node = cluster.node("n2")?;
    let set = cluster.capture().node(&node).no_file().start().await?;
    let long = PingOptions {
        payload: 3000,
        ..PingOptions::default()
    };
    for _ in 0..20 {
        p1.ping_with(&p2, &long).await?;
    }
    let packets = set.packets();
    let incoming = |device: &str| {
        let tap = format!("n2/{device}");
        let of_p1 = packets.iter().filter(|captured| {
            let header = captured.packet.inner_ipv4();
            let from_p1 = header.is_some_and(|header| header.source == p1.address());
            from_p1 && captured.direction == Direction::Incoming && *captured.device == *tap
        });
        let ttls = of_p1.map(|captured| captured.packet.inner_ipv4().map(|header| header.ttl));
        ttls.collect::<Vec<_>>()
    };
    assert_eq!(incoming(&node.underlay()), [Some(63); 20 * 3]);
    assert_eq!(incoming(TUNNEL), [Some(63); 20 * 3]);
    Ok(())
}
