//! What leaves the node.

use proptest::prelude::*;
use rstest::rstest;

use super::super::connection::TcpPacket;
use super::super::encapsulate::{Ways, encapsulate};
use super::super::vnet::{Gso, Vnet};
use super::*;
use crate::encap::userspace::drops::Drop;

/// One route, and the way to its node.
struct Table {
    /// The next hop, if packets go through the joiner.
    join: Option<Mac>,
    /// What was asked about.
    asked: Vec<(TcpPacket, Option<u16>)>,
}

impl Ways for Table {
    fn gateway(&mut self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        (destination == OTHER_POD).then_some(OTHER_NODE)
    }

    fn join(&mut self, to: Ipv4Addr, packet: &TcpPacket, size: Option<u16>) -> Option<Mac> {
        assert_eq!(to, OTHER_NODE);
        self.asked.push((*packet, size));
        self.join
    }
}

/// The outer packets as they are handed to the kernel.
pub(super) fn sent(frame: &mut [u8]) -> Result<Vec<Vec<u8>>, Drop> {
    let mut table = Table {
        join: None,
        asked: Vec::new(),
    };
    let mut packets = Vec::new();
    encapsulate(frame, NODE, &mut table, |outer| {
        assert_eq!(outer.to, OTHER_NODE);
        assert!(outer.join.is_none());
        packets.push((outer.headers.to_vec(), outer.rest));
    })?;
    let whole =
        |(headers, rest): (Vec<u8>, std::ops::Range<usize>)| [&headers, &frame[rest]].concat();
    Ok(packets.into_iter().map(whole).collect())
}

/// The same through the joiner, as it is handed over: virtio header, destination and packet.
fn joined(frame: &mut [u8]) -> Vec<(Vnet, Mac, Vec<u8>)> {
    let mut table = Table {
        join: Some(Mac([7; 6])),
        asked: Vec::new(),
    };
    let mut packets = Vec::new();
    encapsulate(frame, NODE, &mut table, |outer| {
        let join = outer.join.expect("it goes through the joiner");
        packets.push((join.vnet, join.mac, outer.headers.to_vec(), outer.rest));
    })
    .expect("it can be sent");
    let whole = |(vnet, mac, headers, rest): (Vnet, Mac, Vec<u8>, std::ops::Range<usize>)| {
        (vnet, mac, [&headers, &frame[rest]].concat())
    };
    packets.into_iter().map(whole).collect()
}

/// Does what is left to be done about an outer packet's inner checksum.
fn finish(vnet: &Vnet, packet: &mut [u8]) {
    let Some((start, offset)) = vnet.checksum else {
        return;
    };
    let start = usize::from(start) - ETHERNET;
    let sum = slow_checksum(&packet[start..]);
    packet[start + usize::from(offset)..][..2].copy_from_slice(&sum.to_be_bytes());
}

fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Proves that the outer header is the one that the kernel's ipip device makes.
#[rstest]
#[case::plain(Sample::default(), 0, 0x4000)]
#[case::may_be_fragmented(Sample { dont_fragment: false, ..Sample::default() }, 0, 0)]
#[case::dscp_stays_inside(Sample { tos: 0xb8, ..Sample::default() }, 0, 0x4000)]
#[case::congestion_starts_anew(Sample { tos: 3, ..Sample::default() }, 2, 0x4000)]
fn the_outer_header_is_that_of_ipip(#[case] sample: Sample, #[case] tos: u8, #[case] flags: u16) {
    let inner = sample.finished();
    let packets = sent(&mut frame(&Vnet::default(), &inner)).unwrap();
    let [packet] = &packets[..] else {
        panic!("{} packets", packets.len())
    };
    let (outer, rest) = packet.split_at(20);
    assert_eq!(rest, inner, "the inner packet is untouched");
    assert_eq!(
        (outer[0], outer[1], outer[8], outer[9]),
        (0x45, tos, sample.ttl, 4)
    );
    assert_eq!(usize::from(word(outer, 2)), packet.len());
    assert_eq!(
        (word(outer, 4), word(outer, 6), word(outer, 10)),
        (0, flags, 0)
    );
    assert_eq!(
        (&outer[12..16], &outer[16..]),
        (&NODE.octets()[..], &OTHER_NODE.octets()[..])
    );
}

/// Proves that what Ethernet pads a short packet with does not go along.
#[test]
fn padding_is_cut_off() {
    let inner = Sample::with_payload(1).finished();
    let mut padded = frame(&Vnet::default(), &inner);
    padded.extend([0xee; 20]);
    assert_eq!(sent(&mut padded).unwrap()[0][20..], inner);
    // Nor is it part of what a checksum covers.
    let sample = Sample::udp(1);
    let vnet = Vnet {
        gso: None,
        ..sample.gso(0)
    };
    let mut padded = frame(&vnet, &sample.partial());
    padded.extend([0xee; 20]);
    assert_eq!(sent(&mut padded).unwrap()[0][20..], sample.finished());
}

/// Proves that packets without a way, or with a way in circles, are dropped by name.
#[rstest]
#[case::no_route(ip_packet(0, 0, 0, 64, 1, (POD, Ipv4Addr::new(1, 2, 3, 4)), &[8; 8]), Drop::NoTunnelRoute)]
#[case::ttl_0(ip_packet(0, 0, 0, 0, 1, (POD, OTHER_POD), &[8; 8]), Drop::TtlExpired)]
#[case::our_own(ip_packet(0, 0, 0, 63, 4, (NODE, OTHER_POD), &[0x45; 40]), Drop::Loop)]
#[case::not_ipv4(vec![0x65; 40], Drop::SentMalformed)]
fn what_cannot_be_sent_is_counted(#[case] packet: Vec<u8>, #[case] reason: Drop) {
    assert_eq!(sent(&mut frame(&Vnet::default(), &packet)), Err(reason));
}

/// Proves that a checksum that the pod's kernel left to hardware is on the wire: for TCP, for
/// UDP, and for what is neither by the offsets that the kernel gives.
#[rstest]
#[case(Sample::with_payload(1001))]
#[case(Sample::udp(1001))]
fn partial_checksums_are_completed(#[case] sample: Sample) {
    let vnet = Vnet {
        gso: None,
        ..sample.gso(0)
    };
    let packets = sent(&mut frame(&vnet, &sample.partial())).unwrap();
    assert_eq!(packets[0][20..], sample.finished());
    assert_checksums(&packets[0][20..]);
}

/// Proves the same for SCTP, whose checksum is a CRC.
#[test]
fn an_sctp_checksum_is_completed() {
    let segment = [
        &[0, 80, 0, 90, 1, 2, 3, 4, 0xee, 0xee, 0xee, 0xee][..],
        b"123456789",
    ]
    .concat();
    let vnet = Vnet {
        checksum: Some((34, 8)),
        ..Vnet::default()
    };
    let inner = ip_packet(0, 0, 0x4000, 63, 132, (POD, OTHER_POD), &segment);
    let packets = sent(&mut frame(&vnet, &inner)).unwrap();
    let mut zeroed = segment.clone();
    zeroed[8..12].fill(0);
    let expected = super::super::checksum::crc32c(&zeroed);
    assert_eq!(packets[0][20 + 20 + 8..][..4], expected);
    assert_eq!(packets[0][20 + 20 + 12..], segment[12..]);
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_all_ones() {
    let mut sample = Sample::udp(2);
    // Looks for a payload that sums up to it.
    let zero = (0..=u16::MAX).find(|word| {
        sample.payload = word.to_be_bytes().to_vec();
        slow_checksum(&[sample.pseudo(10), sample.segment()].concat()) == 0
    });
    assert!(zero.is_some());
    let vnet = Vnet {
        gso: None,
        ..sample.gso(0)
    };
    let packets = sent(&mut frame(&vnet, &sample.partial())).unwrap();
    assert_eq!(word(&packets[0], 20 + 20 + 6), 0xffff);
}

/// Proves what each segment of a TCP super-packet looks like.
#[test]
fn a_tcp_super_packet_is_cut_by_the_book() {
    const FIN_PSH_ACK_CWR: u8 = 0x01 | 0x08 | 0x10 | 0x80;
    let sample = Sample {
        flags: FIN_PSH_ACK_CWR,
        sequence: u32::MAX - 1500,
        id: u16::MAX,
        ..Sample::with_payload(3 * 1000 + 1)
    };
    let packets = sent(&mut frame(&sample.gso(1000), &sample.partial())).unwrap();
    assert_eq!(packets.len(), 4);
    for (i, packet) in packets.iter().enumerate() {
        let inner = &packet[20..];
        assert_checksums(inner);
        let expected = Sample {
            id: sample.id.wrapping_add(i as u16),
            sequence: sample.sequence.wrapping_add(1000 * i as u32),
            flags: match i {
                0 => 0x10 | 0x80,
                3 => 0x10 | 0x08 | 0x01,
                _ => 0x10,
            },
            payload: sample.payload.chunks(1000).nth(i).unwrap().to_vec(),
            ..sample.clone()
        };
        assert_eq!(inner, expected.finished(), "segment {i}");
        assert_eq!(usize::from(word(packet, 2)), packet.len());
    }
}

/// Proves the same of UDP: each segment is a datagram of its own.
#[test]
fn a_udp_super_packet_is_cut_into_datagrams() {
    let sample = Sample::udp(2500);
    let packets = sent(&mut frame(&sample.gso(1000), &sample.partial())).unwrap();
    let lengths: Vec<_> = packets.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1048, 1048, 548]);
    for (i, packet) in packets.iter().enumerate() {
        assert_checksums(&packet[20..]);
        let expected = Sample {
            id: sample.id + i as u16,
            payload: sample.payload.chunks(1000).nth(i).unwrap().to_vec(),
            ..sample.clone()
        };
        assert_eq!(packet[20..], expected.finished());
    }
}

/// Proves that a super-packet that is not what its header says is dropped whole: to send it as
/// one packet, or in wrong pieces, would be worse.
#[rstest]
#[case::udp_as_tcp(Sample { transport: Gso::Udp, ..Sample::with_payload(3000) }, Gso::Tcp, 1000)]
#[case::tcp_as_udp(Sample::with_payload(3000), Gso::Udp, 1000)]
#[case::size_0(Sample::with_payload(3000), Gso::Tcp, 0)]
#[case::ten_thousand_segments(Sample::with_payload(30_000), Gso::Tcp, 3)]
#[case::too_many_datagrams(Sample::udp(1290), Gso::Udp, 10)]
#[case::no_payload(Sample::with_payload(0), Gso::Tcp, 1000)]
fn a_wrong_super_packet_is_dropped(#[case] sample: Sample, #[case] gso: Gso, #[case] size: u16) {
    let vnet = Vnet {
        gso: Some((gso, size)),
        ..sample.gso(size)
    };
    assert_eq!(
        sent(&mut frame(&vnet, &sample.partial())),
        Err(Drop::SentUnknownGso)
    );
}

/// Proves that only streams are asked for their way: packets that may be fragmented need a raw
/// socket's identification, and of others the kernel joins none.
#[rstest]
#[case::stream(Sample::with_payload(3000), Some(1000), Some(Some(1000)))]
#[case::acknowledgement(Sample::with_payload(0), None, Some(None))]
#[case::may_be_fragmented(Sample { dont_fragment: false, ..Sample::with_payload(3000) }, Some(1000), None)]
#[case::datagrams(Sample::udp(3000), Some(1000), None)]
fn streams_are_asked_for_their_way(
    #[case] sample: Sample,
    #[case] size: Option<u16>,
    #[case] expected: Option<Option<u16>>,
) {
    let mut table = Table {
        join: None,
        asked: Vec::new(),
    };
    let vnet = match size {
        Some(size) => sample.gso(size),
        None => Vnet::default(),
    };
    encapsulate(
        &mut frame(&vnet, &sample.partial()),
        NODE,
        &mut table,
        |_| (),
    )
    .unwrap();
    let asked: Vec<_> = table
        .asked
        .iter()
        .map(|(packet, size)| (packet.length, *size))
        .collect();
    let expected = expected.map(|size| (sample.payload.len(), size));
    assert_eq!(asked, expected.into_iter().collect::<Vec<_>>());
}

proptest! {
    /// Proves that what goes through the joiner is what a raw socket would have sent: the same
    /// packets, with nothing left to do but one checksum of the inner ones.
    #[test]
    fn the_joiner_gets_the_packets_of_the_raw_socket(
        length in 1usize..5000,
        size in 200u16..3000,
        tos: u8,
        sequence: u32,
        gso: bool,
        words in 0usize..=10,
    ) {
        let options = vec![1; words * 4];
        let sample = Sample { tos, sequence, options, ..Sample::with_payload(length) };
        let vnet = Vnet { gso: sample.gso(size).gso.filter(|_| gso), ..sample.gso(size) };
        let raw = sent(&mut frame(&vnet, &sample.partial())).unwrap();
        let joined = joined(&mut frame(&vnet, &sample.partial()));
        prop_assert_eq!(raw.len(), joined.len());
        for (mut raw, (vnet, mac, mut packet)) in raw.into_iter().zip(joined) {
            prop_assert_eq!((mac, vnet.gso, vnet.ecn), (Mac([7; 6]), None, false));
            finish(&vnet, &mut packet);
            // The kernel does.
            let sum = slow_checksum(&raw[..20]);
            raw[10..12].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(raw, packet);
        }
    }
}

proptest! {
    /// Proves that any checksum offset is kept inside the packet.
    #[test]
    fn checksum_offsets_never_reach_outside(start: u16, offset: u16, length in 0usize..200) {
        let inner = Sample::with_payload(length).partial();
        let vnet = Vnet { checksum: Some((start, offset)), ..Vnet::default() };
        match sent(&mut frame(&vnet, &inner)) {
            Ok(packets) => {
                prop_assert!(usize::from(start) + usize::from(offset) + 2 <= ETHERNET + inner.len());
                prop_assert_eq!(packets[0].len(), 20 + inner.len());
            }
            Err(reason) => prop_assert_eq!(reason, Drop::SentMalformed),
        }
    }
}
