//! Bytes that nobody in their right mind would send. They may be dropped or carried, but never
//! stop a thread, and never make more out of a packet than was in it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::vnet::Vnet;
use super::inward::delivered;
use super::outward::sent;
use super::*;

/// Random bytes hardly get past the first check; a good packet with some bytes changed does.
fn disturbed(packet: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = packet.len();
    (vec((0..length.min(80), any::<u8>()), 0..6), 0..=length).prop_map(move |(changes, cut)| {
        let mut packet = packet.clone();
        for (at, byte) in changes {
            packet[at] = byte;
        }
        // As likely whole as not.
        if cut % 2 == 0 {
            packet.truncate(cut);
        }
        packet
    })
}

fn any_inner() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        disturbed(Sample::with_payload(700).finished()),
        disturbed(Sample::with_payload(3).partial()),
        disturbed(Sample::udp(500).finished()),
        disturbed(ipip(&Sample::udp(5).finished())),
        vec(any::<u8>(), 0..200),
    ]
}

fn any_vnet() -> impl Strategy<Value = [u8; 10]> {
    prop_oneof![
        any::<[u8; 10]>(),
        (0u16..60, 0u16..2000, 0u16..80, 0u16..30, 0u8..2, 0u8..6).prop_map(
            |(header_len, size, start, offset, flags, kind)| {
                let mut bytes = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
                for (at, word) in [(2, header_len), (4, size), (6, start), (8, offset)] {
                    bytes[at..at + 2].copy_from_slice(&u16::to_ne_bytes(word));
                }
                bytes
            }
        ),
    ]
}

proptest! {
    #![proptest_config(crate::fixtures::cases(2000))]

    #[test]
    fn frames_from_the_tunnel(vnet in any_vnet(), packet in any_inner()) {
        let mut bytes = frame(&Vnet::default(), &packet);
        bytes[..10].copy_from_slice(&vnet);
        if let Ok(packets) = sent(&mut bytes) {
            let payload: usize = packets.iter().map(|p| p.len().saturating_sub(20 + 60 + 60)).sum();
            prop_assert!(payload <= packet.len());
            for packet in packets {
                prop_assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
            }
        }
    }

    #[test]
    fn frames_of_any_bytes(mut bytes in vec(any::<u8>(), 0..100)) {
        // Whatever the answer.
        let packets = sent(&mut bytes).unwrap_or_default();
        prop_assert!(packets.len() < 100);
    }

    #[test]
    fn batches_from_other_nodes(
        frames in vec((any_vnet(), prop_oneof![
            3 => any_inner().prop_map(|inner| ipip(&inner)),
            1 => any_inner(),
            1 => disturbed(ipip(&Sample::with_payload(100).finished())),
        ], any::<bool>()), 0..20),
    ) {
        let frames: Vec<Vec<u8>> = frames
            .into_iter()
            .map(|(vnet, packet, plain)| {
                let mut bytes = frame(&Vnet::default(), &packet);
                if !plain {
                    bytes[..10].copy_from_slice(&vnet);
                }
                bytes
            })
            .collect();
        let deliveries = delivered(&frames);
        prop_assert!(deliveries.len() <= frames.len());
        for (vnet, packet) in &deliveries {
            prop_assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
            if let Some((start, offset)) = vnet.checksum {
                prop_assert!(usize::from(start) + usize::from(offset) + 2 <= ETHERNET + packet.len());
            }
        }
        let came: usize = frames.iter().map(Vec::len).sum();
        prop_assert!(deliveries.iter().map(|(_, packet)| packet.len()).sum::<usize>() <= came);
    }
}
