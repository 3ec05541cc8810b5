//! Outer packets that no healthy node sends.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use podlab::Cluster;
use podlab::capture::{Captured, Filter};
use podlab_scenarios::seed::{DEMO_W2, TEST_TOOLS, UNDERLAY, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::each::boot;
use crate::traffic;

const SOON: Duration = Duration::from_secs(5);

/// An IPv4 packet; `fragment` is the field with flags and offset.
fn packet(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend((20 + payload.len() as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    let checksum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum::<u32>();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// An echo request from one pod to the other, `length` bytes long in all.
fn echo_request(cluster: &Cluster, length: usize) -> Result<Vec<u8>> {
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let mut icmp = vec![8, 0, 0, 0, 0x77, 0x77, 0, 1];
    icmp.resize(length - 20, 0);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    Ok(packet(1, from.address(), to.address(), 0, &icmp))
}

fn length(captured: &Captured) -> Option<usize> {
    let ip = captured.packet.inner_ipv4()?;
    Some(usize::from(ip.total_length))
}

/// Proves that protocol 4 from an address that is no node's goes nowhere, and that the node's
/// own stack does not answer it with "protocol unreachable" either: the backend owns it.
#[rstest]
#[podlab::test]
async fn a_strangers_packet_is_dropped_in_silence(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = boot(backend).await?;
    let (node, pod) = (cluster.node(WORKER_2)?, cluster.pod(DEMO_W2)?);
    // The gateway: no node, but somebody whom an answer would reach.
    let addresses = cluster.fabric().addresses().await?;
    let near = |address: &Ipv4Addr| address.octets()[..2] == node.address().octets()[..2];
    let stranger = addresses.iter().map(|a| a.address.addr()).find(near);
    let stranger = stranger.context("the gateway's address")?;
    let inner = echo_request(&cluster, 99)?;
    let at_pod = pod.capture("eth0", &Filter::protocol(1))?;
    let at_node = node.capture(UNDERLAY, &Filter::everything())?;
    let outer = packet(4, stranger, node.address(), 0, &inner);
    traffic::raw(cluster.fabric(), &outer).await?;
    // What was sent before this has arrived before it.
    cluster.pod(TEST_TOOLS)?.ping(&pod).await?;

    let arrived = at_node.stop().await?.packets;
    let outer_sources: Vec<_> = arrived
        .iter()
        .filter_map(|captured| Some(captured.packet.outer_ipv4()?.source))
        .collect();
    assert!(outer_sources.contains(&stranger), "it did not even arrive");
    let answers = arrived.iter().filter(|captured| {
        let outer = captured.packet.outer_ipv4();
        outer.is_some_and(|ip| ip.destination == stranger)
    });
    assert_eq!(answers.count(), 0);
    let inside = at_pod.stop().await?.packets;
    assert!(!inside.is_empty(), "the ping is there");
    assert!(!inside.iter().any(|captured| length(captured) == Some(99)));
    Ok(())
}

/// Proves that an outer packet which was fragmented on its way is put together again.
#[podlab::test]
async fn a_fragmented_outer_packet_is_taken() -> Result<()> {
    let cluster = boot("userspace").await?;
    let (one, two) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let at_pod = cluster
        .pod(DEMO_W2)?
        .capture("eth0", &Filter::protocol(1))?;
    let inner = echo_request(&cluster, 999)?;
    let (first, second) = inner.split_at(480);
    const MORE_FRAGMENTS: u16 = 0x2000;
    for (fragment, part) in [(MORE_FRAGMENTS, first), (480 / 8, second)] {
        let outer = packet(4, one.address(), two.address(), fragment, part);
        traffic::raw(&one, &outer).await?;
    }
    let arrived = |packets: &[Captured]| packets.iter().find_map(length);
    assert_eq!(at_pod.wait_until(arrived, SOON).await?, 999);
    Ok(())
}
