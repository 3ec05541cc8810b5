//! What comes into the node.

use std::collections::BTreeSet;

use rstest::rstest;

use super::super::coalesce::Coalescer;
use super::super::decapsulate::{Accept, Inner, decapsulate};
use super::super::ipv4::Ipv4;
use super::super::vnet::{Gso, Vnet};
use super::*;
use crate::desired::Peers;
use crate::encap::userspace::drops::Drop;

/// Takes a frame from the one known peer; what is said to be inside is inside.
pub(super) fn inner(frame: &mut [u8]) -> Result<Inner, Drop> {
    let peers = Peers {
        nodes: BTreeSet::from([OTHER_NODE]),
        ..Peers::default()
    };
    let accept = Accept {
        node_address: NODE,
        peers: &peers,
    };
    let inner = decapsulate(frame, &accept)?;
    assert_eq!(Ipv4::parse(&frame[inner.at.clone()]), Some(inner.ip));
    Ok(inner)
}

/// The inner packet of an outer one that came from a wire.
pub(super) fn taken(packet: &[u8]) -> Result<Vec<u8>, Drop> {
    let mut frame = frame(&Vnet::default(), packet);
    let inner = inner(&mut frame)?;
    assert_eq!(inner.vnet, Vnet::default());
    Ok(frame[inner.at].to_vec())
}

/// The frames that a batch of outer frames becomes; what cannot be taken is left out.
pub(super) fn delivered(frames: &[Vec<u8>]) -> Vec<(Vnet, Vec<u8>)> {
    let mut buffer = frames.concat();
    let mut coalescer = Coalescer::default();
    let mut start = 0;
    for length in frames.iter().map(Vec::len) {
        if let Ok(inner) = inner(&mut buffer[start..start + length]) {
            let at = inner.at.start + start..inner.at.end + start;
            coalescer.add(&buffer, at, inner.ip, inner.vnet);
        }
        start += length;
    }
    let mut deliveries = Vec::new();
    coalescer.drain(&buffer, |delivery| {
        let mut bytes = delivery.headers.to_vec();
        for piece in delivery.pieces {
            bytes.extend(&buffer[piece.clone()]);
        }
        deliveries.push((delivery.vnet, bytes));
    });
    deliveries
}

/// The same of inner packets that come from a wire.
pub(super) fn rebuilt(packets: &[Vec<u8>]) -> Vec<(Vnet, Vec<u8>)> {
    let frames: Vec<_> = packets
        .iter()
        .map(|packet| frame(&Vnet::default(), &ipip(packet)))
        .collect();
    delivered(&frames)
}

#[test]
fn the_outer_header_comes_off() {
    let inner = Sample::default().finished();
    assert_eq!(taken(&ipip(&inner)), Ok(inner.clone()));
    // Bytes behind the inner packet are nobody's.
    assert_eq!(
        taken(&ipip(&[&inner[..], &[9; 7]].concat())),
        Ok(inner.clone())
    );
    // An outer header with options.
    let mut outer = ipip(&inner);
    outer.splice(20..20, [1, 1, 1, 1]);
    outer[0] = 0x46;
    let length = outer.len() as u16;
    outer[2..4].copy_from_slice(&length.to_be_bytes());
    outer[10..12].fill(0);
    let checksum = slow_checksum(&outer[..24]);
    outer[10..12].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(taken(&outer), Ok(inner));
}

fn between(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let inner = Sample::default().finished();
    ip_packet(0, 0, 0, 63, 4, (source, destination), &inner)
}

fn damaged() -> Vec<u8> {
    let mut packet = between(OTHER_NODE, NODE);
    packet[8] ^= 1;
    packet
}

/// Proves that nobody but a known node gets packets into the pod network.
#[rstest]
#[case::stranger(between(Ipv4Addr::new(10, 12, 22, 99), NODE), Drop::UnknownSender)]
#[case::ourselves(between(NODE, NODE), Drop::UnknownSender)]
#[case::other_address(between(OTHER_NODE, Ipv4Addr::new(10, 12, 22, 77)), Drop::NotForUs)]
#[case::nothing_inside(ipip(&[]), Drop::ReceivedMalformed)]
#[case::ipv6_inside(ipip(&[0x60; 60]), Drop::ReceivedMalformed)]
#[case::inner_too_long(ipip(&Sample::default().finished()[..100]), Drop::ReceivedMalformed)]
#[case::damaged(damaged(), Drop::ReceivedMalformed)]
#[case::a_fragment(
    ip_packet(0, 0, 0x2000, 63, 4, (OTHER_NODE, NODE), &Sample::default().finished()),
    Drop::ReceivedMalformed
)]
#[case::congestion_without_ecn(
    ip_packet(3, 0, 0, 63, 4, (OTHER_NODE, NODE), &Sample::default().finished()),
    Drop::EcnInvalid
)]
fn what_may_not_come_in_is_counted(#[case] packet: Vec<u8>, #[case] reason: Drop) {
    assert_eq!(taken(&packet), Err(reason));
}

/// Proves that a congestion mark made on the underlay reaches the receiver, with right checksums.
#[test]
fn congestion_is_carried_inward() {
    let inner = Sample {
        tos: 2,
        ..Sample::default()
    };
    let packet = ip_packet(3, 0, 0x4000, 63, 4, (OTHER_NODE, NODE), &inner.finished());
    let expected = Sample { tos: 3, ..inner };
    assert_eq!(taken(&packet), Ok(expected.finished()));
}

fn run(count: usize, size: usize) -> Vec<Sample> {
    (0..count)
        .map(|i| Sample {
            id: 77 + i as u16,
            sequence: 1000 + (i * size) as u32,
            ..Sample::with_payload(size)
        })
        .collect()
}

fn bytes(samples: &[Sample]) -> Vec<Vec<u8>> {
    samples.iter().map(Sample::finished).collect()
}

/// Proves that a run of segments becomes one super-packet that says how to cut it again.
#[test]
fn consecutive_segments_become_one() {
    let segments = run(4, 500);
    let frames = rebuilt(&bytes(&segments));
    let [(vnet, packet)] = &frames[..] else {
        panic!("{} frames", frames.len())
    };
    let whole = Sample {
        payload: segments.iter().flat_map(|s| s.payload.clone()).collect(),
        ..segments[0].clone()
    };
    assert_eq!(*packet, whole.partial());
    assert_eq!(*vnet, whole.gso(500));
}

/// Proves that segments of interleaved connections find their own.
#[test]
fn connections_do_not_mix() {
    let one = run(3, 500);
    let two: Vec<Sample> = run(3, 300)
        .into_iter()
        .map(|s| Sample {
            ports: (40_001, 8080),
            ..s
        })
        .collect();
    let mixed: Vec<Vec<u8>> = one
        .iter()
        .zip(&two)
        .flat_map(|(a, b)| [a.finished(), b.finished()])
        .collect();
    let frames = rebuilt(&mixed);
    let sizes: Vec<_> = frames
        .iter()
        .map(|(vnet, packet)| (vnet.gso, packet.len()))
        .collect();
    assert_eq!(
        sizes,
        [
            (Some((Gso::Tcp, 500)), 52 + 1500),
            (Some((Gso::Tcp, 300)), 52 + 900)
        ]
    );
}

/// Proves that nothing is put together that was not sent as consecutive and alike: what the
/// receiver sees must be what the sender sent. Each case changes the second of two segments.
#[rstest]
#[case::a_gap(|s: &mut Sample| s.sequence += 1)]
#[case::a_repetition(|s: &mut Sample| s.sequence -= 500)]
#[case::other_ack(|s: &mut Sample| s.acknowledgement += 1)]
#[case::other_window(|s: &mut Sample| s.window += 1)]
#[case::other_options(|s: &mut Sample| s.options[7] += 1)]
#[case::longer_options(|s: &mut Sample| s.options.extend([1; 4]))]
#[case::other_tos(|s: &mut Sample| s.tos = 4)]
#[case::other_ttl(|s: &mut Sample| s.ttl -= 1)]
#[case::other_df(|s: &mut Sample| s.dont_fragment = false)]
#[case::fin(|s: &mut Sample| s.flags |= 0x01)]
#[case::syn(|s: &mut Sample| s.flags |= 0x02)]
#[case::rst(|s: &mut Sample| s.flags |= 0x04)]
#[case::urgent(|s: &mut Sample| s.flags |= 0x20)]
#[case::ece(|s: &mut Sample| s.flags |= 0x40)]
#[case::cwr(|s: &mut Sample| s.flags |= 0x80)]
#[case::longer(|s: &mut Sample| s.payload.push(1))]
#[case::empty(|s: &mut Sample| s.payload.clear())]
fn what_differs_stays_apart(#[case] change: fn(&mut Sample)) {
    let mut segments = run(2, 500);
    change(&mut segments[1]);
    let packets = bytes(&segments);
    let frames: Vec<Vec<u8>> = rebuilt(&packets).into_iter().map(|(_, p)| p).collect();
    assert_eq!(frames, packets);
}

/// Proves that a damaged segment is never given a right checksum.
#[test]
fn a_damaged_segment_stays_apart_and_damaged() {
    let mut packets = bytes(&run(3, 500));
    packets[1][200] ^= 0x10;
    let frames = rebuilt(&packets);
    assert_eq!(frames.len(), 3);
    assert_eq!(frames[1], (Vnet::default(), packets[1].clone()));
}

/// Proves that the order within a connection is kept: a packet that cannot join stops those
/// behind it from joining what is before it.
#[test]
fn nothing_passes_a_packet_of_its_connection() {
    let mut segments = run(3, 500);
    let ack = Sample {
        payload: Vec::new(),
        acknowledgement: 5,
        ..segments[0].clone()
    };
    segments.insert(1, ack);
    let frames = rebuilt(&bytes(&segments));
    let lengths: Vec<_> = frames.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(lengths, [552, 52, 1052]);
}

/// Proves that "push" and a short segment end a super-packet, as they end a burst.
#[test]
fn push_and_a_short_segment_end_it() {
    let mut segments = run(4, 500);
    segments[1].flags |= 0x08;
    let frames = rebuilt(&bytes(&segments));
    let lengths: Vec<_> = frames.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(lengths, [1052, 1052]);
    assert_eq!(frames[0].1[20 + 13], 0x18, "push is kept");

    let mut segments = run(4, 500);
    segments[1].payload.truncate(100);
    segments[2].sequence -= 400;
    segments[3].sequence -= 400;
    let frames = rebuilt(&bytes(&segments));
    let lengths: Vec<_> = frames.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(lengths, [652, 1052]);
}

/// Proves that no super-packet is longer than an IPv4 packet can be.
#[test]
fn a_super_packet_ends_at_64_kilobytes() {
    let frames = rebuilt(&bytes(&run(100, 1400)));
    assert_eq!(frames.len(), 3);
    for (_, packet) in &frames {
        let total = u16::from_be_bytes([packet[2], packet[3]]);
        assert_eq!(usize::from(total), packet.len());
    }
}

/// The frame in which an eBPF node on this host sends `packet`.
fn from_this_host(vnet: &Vnet, packet: &[u8]) -> Vec<u8> {
    let outer = Vnet {
        checksum: vnet.checksum.map(|(start, offset)| (start + 20, offset)),
        header_len: vnet.header_len + 20,
        ..*vnet
    };
    frame(&outer, &ipip(packet))
}

/// Proves that a checksum that a sender on this host left to hardware is left so, and said.
#[rstest]
#[case(Sample::with_payload(300))]
#[case(Sample::udp(300))]
fn a_partial_checksum_is_handed_on_as_one(#[case] sample: Sample) {
    let vnet = Vnet {
        checksum: sample.gso(0).checksum,
        ..Vnet::default()
    };
    let frames = delivered(&[from_this_host(&vnet, &sample.partial())]);
    assert_eq!(frames, [(vnet, sample.partial())]);
}

/// Proves that a super-packet from a node on this host goes on as one with the same segments,
/// be it shorter than the MTU, and whether its checksum was left to be made or not.
#[rstest]
#[case(Sample::with_payload(20_000), 1400)]
#[case(Sample::udp(20_000), 1400)]
#[case(Sample::udp(20), 1)]
fn a_super_packet_is_handed_on_as_one(#[case] sample: Sample, #[case] size: u16) {
    let vnet = sample.gso(size);
    let frames = delivered(&[from_this_host(&vnet, &sample.partial())]);
    assert_eq!(frames, [(vnet, sample.partial())]);

    let said = Vnet {
        checksum: None,
        ..vnet
    };
    let frames = delivered(&[from_this_host(&said, &sample.finished())]);
    assert_eq!(frames, [(vnet, sample.partial())]);
}

/// Proves that a super-packet is not cut when that would give wrong data right checksums, or
/// when it is not what its header says.
#[rstest]
#[case::damaged(|vnet: &mut Vnet, packet: &mut Vec<u8>| { vnet.checksum = None; packet[1000] ^= 1; }, Drop::ReceivedUnknownGso)]
#[case::elsewhere(|vnet: &mut Vnet, _: &mut Vec<u8>| vnet.checksum = Some((40, 16)), Drop::ReceivedUnknownGso)]
#[case::outside(|vnet: &mut Vnet, _: &mut Vec<u8>| vnet.checksum = Some((20_000, 16)), Drop::ReceivedMalformed)]
#[case::in_the_header(|vnet: &mut Vnet, _: &mut Vec<u8>| vnet.checksum = Some((20, 16)), Drop::ReceivedMalformed)]
#[case::datagrams(|vnet: &mut Vnet, _: &mut Vec<u8>| vnet.gso = Some((Gso::Udp, 1400)), Drop::ReceivedUnknownGso)]
#[case::size_0(|vnet: &mut Vnet, _: &mut Vec<u8>| vnet.gso = Some((Gso::Tcp, 0)), Drop::ReceivedUnknownGso)]
fn a_wrong_super_packet_is_dropped(
    #[case] change: fn(&mut Vnet, &mut Vec<u8>),
    #[case] reason: Drop,
) {
    let sample = Sample::with_payload(5000);
    let (mut vnet, mut packet) = (sample.gso(1400), sample.finished());
    change(&mut vnet, &mut packet);
    let mut frame = from_this_host(&vnet, &packet);
    assert_eq!(inner(&mut frame).err(), Some(reason));
}
