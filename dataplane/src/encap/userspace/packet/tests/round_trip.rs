//! Out of one node and into the other: the packet that arrives is the packet that was sent.

use proptest::prelude::*;

use super::super::vnet::{Gso, Vnet};
use super::inward::{rebuilt, taken};
use super::outward::sent;
use super::*;

prop_compose! {
    fn sample()(
        tos in 0u8..=255,
        id: u16,
        dont_fragment: bool,
        ttl in 1u8..=255,
        ports: (u16, u16),
        sequence: u32,
        acknowledgement: u32,
        push: bool,
        window: u16,
        words in 0usize..=10,
        option: u8,
        payload in proptest::collection::vec(any::<u8>(), 1..9000),
    ) -> Sample {
        Sample {
            tos,
            id,
            dont_fragment,
            ttl,
            transport: Gso::Tcp,
            ports,
            sequence,
            acknowledgement,
            flags: if push { 0x18 } else { 0x10 },
            window,
            options: vec![option; words * 4],
            payload,
        }
    }
}

/// Every outer packet of the frame, as the other node takes it.
fn across(vnet: &Vnet, packet: &[u8]) -> Vec<Vec<u8>> {
    let outer = sent(&mut frame(vnet, packet)).expect("it can be sent");
    outer
        .into_iter()
        .map(|mut packet| {
            // The other way round, for the receiver of these tests.
            packet[12..16].copy_from_slice(&OTHER_NODE.octets());
            packet[16..20].copy_from_slice(&NODE.octets());
            // The kernel does.
            let checksum = slow_checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            taken(&packet).expect("it is taken")
        })
        .collect()
}

proptest! {
    #[test]
    fn what_was_split_is_rebuilt(sample in sample(), size in 200u16..3000) {
        let packets = across(&sample.gso(size), &sample.partial());
        for packet in &packets {
            assert_checksums(packet);
        }
        // "Congestion experienced" is inside and stays there.
        let frames = rebuilt(&packets);
        prop_assert_eq!(frames.len(), 1);
        let (vnet, packet) = &frames[0];
        if sample.payload.len() > usize::from(size) {
            prop_assert_eq!(packet, &sample.partial());
            prop_assert_eq!(*vnet, sample.gso(size));
        } else {
            prop_assert_eq!(packet, &sample.finished());
            prop_assert_eq!(*vnet, Vnet::default());
        }
    }

    #[test]
    fn datagrams_keep_their_boundaries(
        payload in proptest::collection::vec(any::<u8>(), 1..9000),
        size in 100u16..3000,
    ) {
        let sample = Sample { payload, ..Sample::udp(0) };
        let frames = rebuilt(&across(&sample.gso(size), &sample.partial()));
        let chunks: Vec<_> = sample.payload.chunks(size.into()).collect();
        prop_assert_eq!(frames.len(), chunks.len());
        for ((vnet, packet), chunk) in frames.iter().zip(chunks) {
            assert_checksums(packet);
            prop_assert_eq!((vnet, &packet[28..]), (&Vnet::default(), chunk));
        }
    }

    /// Any batch, whatever was lost or reordered in it: cut again, it is what came, in order
    /// within each connection.
    #[test]
    fn a_batch_is_the_same_packets_after_all(
        sample in sample(),
        size in 200u16..1500,
        picks in proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>()), 1..40),
    ) {
        let one = across(&sample.gso(size), &sample.partial());
        let other = Sample { ports: (sample.ports.0 ^ 1, sample.ports.1), ..sample.clone() };
        let other = across(&other.gso(size), &other.partial());
        let batch: Vec<Vec<u8>> = picks
            .iter()
            .map(|(index, first)| if *first { index.get(&one) } else { index.get(&other) }.clone())
            .collect();
        let mut again: Vec<Vec<u8>> = Vec::new();
        for (vnet, packet) in rebuilt(&batch) {
            again.extend(across(&vnet, &packet));
        }
        let of = |packets: &[Vec<u8>], port: [u8; 2]| -> Vec<Vec<u8>> {
            packets.iter().filter(|p| p[20..22] == port).map(|p| {
                let mut packet = p.clone();
                // With DF the identification means nothing (RFC 6864).
                if sample.dont_fragment {
                    packet[4..6].fill(0);
                    packet[10..12].fill(0);
                }
                packet
            }).collect()
        };
        for port in [sample.ports.0, sample.ports.0 ^ 1] {
            let port = port.to_be_bytes();
            prop_assert_eq!(of(&again, port), of(&batch, port));
        }
    }
}
