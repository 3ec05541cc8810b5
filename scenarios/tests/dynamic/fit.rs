//! Which packets fit, and what becomes of those that are one byte too long.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use podlab::capture::Filter;
use podlab::packet::IcmpMessage;
use podlab::probe::icmp::PingOptions;
use podlab::spec::Encapsulation::{self, Always, CrossSubnet, Never};
use podlab::{Cluster, Pod};
use podlab_scenarios::unnumbered;
use rstest::rstest;

use crate::world::{boot, connected, route};

/// IPv4 and ICMP header of an echo request.
const HEADERS: usize = 28;
/// What the outer header takes.
const OUTER: u32 = 20;
/// Wider than any underlay here: it is the node that must stop what does not fit, not the pod.
const WIDE: u32 = 9500;

/// A cluster whose whole underlay has this MTU, with pods that would send longer packets.
async fn with_wide_pods(mode: Encapsulation, backend: &str, underlay: u32) -> Result<Cluster> {
    let mut spec = connected(mode);
    for node in &mut spec.nodes {
        node.mtu = underlay;
    }
    let cluster = boot(spec, backend).await?;
    for pod in cluster.pods() {
        let widen = |device: &str| format!("ip link set {device} mtu {WIDE}");
        let outside = widen(&pod.host_interface());
        pod.node().exec(outside.as_str()).await?.success()?;
        pod.exec(widen("eth0").as_str()).await?.success()?;
    }
    Ok(cluster)
}

/// Sends one echo request of this many bytes, IPv4 header included, that must not be cut.
async fn send(from: &Pod, to: &Pod, bytes: u32) -> Result<(), podlab::Error> {
    let whole = PingOptions {
        payload: bytes as usize - HEADERS,
        dont_fragment: true,
        ..PingOptions::default()
    };
    from.ping_with(to, &whole).await.map(drop)
}

/// Proves that the longest packet gets through in every mode, and that one byte more is answered
/// by the pod's own node with "fragmentation needed" and the number that would have been right: a
/// sender that is not told waits for ever.
#[rstest]
#[podlab::test]
async fn item_02_the_longest_packet_fits_and_a_longer_one_is_answered(
    #[values(1400, 1500, 9000)] underlay: u32,
    #[values(Always, CrossSubnet, Never)] mode: Encapsulation,
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = with_wide_pods(mode, backend, underlay).await?;
    let p1 = cluster.pod("p1")?;
    let speaker = unnumbered::source(&p1.node()).await?;
    // p2 is in the same subnet, p3 across.
    for (name, tunnel) in [("p2", mode == Always), ("p3", mode != Never)] {
        let other = cluster.pod(name)?;
        let limit = if tunnel { underlay - OUTER } else { underlay };
        let block = format!("192.168.{}.0/24", other.address().octets()[2]);
        let route = route(&p1.node(), &block).await?.context("no route")?;
        assert_eq!(route.mtu, tunnel.then_some(limit), "{route:?}");

        send(&p1, &other, limit).await.context(name)?;
        let errors = p1.capture("eth0", &Filter::protocol(1))?;
        let arriving = other.capture("eth0", &Filter::protocol(1))?;
        let error = send(&p1, &other, limit + 1).await.unwrap_err();
        assert_eq!(
            answers(&errors.stop().await?.packets),
            [(speaker, limit as u16)],
            "{name}: {error}"
        );
        let text = format!("{speaker} says fragmentation needed, mtu {limit}");
        assert!(error.to_string().contains(&text), "{name}: {error}");
        assert!(arriving.stop().await?.packets.is_empty(), "{name}: it came");
        // What may be cut is cut, and put together at the other end.
        let cut = PingOptions {
            payload: limit as usize + 1,
            ..PingOptions::default()
        };
        p1.ping_with(&other, &cut).await.context(name)?;
    }
    Ok(())
}

/// Who said "fragmentation needed", and with which MTU.
fn answers(packets: &[podlab::capture::Captured]) -> Vec<(Ipv4Addr, u16)> {
    let answer = |captured: &podlab::capture::Captured| {
        let IcmpMessage::FragmentationNeeded { mtu } = captured.packet.icmp()?.message else {
            return None;
        };
        Some((captured.packet.inner_ipv4()?.source, mtu))
    };
    packets.iter().filter_map(answer).collect()
}
