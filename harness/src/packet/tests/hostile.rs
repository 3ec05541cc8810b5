//! Nothing that a wire can carry makes the decoder panic, and it keeps what it understood.

use proptest::prelude::*;

use super::super::*;
use super::frames;

/// Uses everything of a packet that reads its bytes.
fn exercise(packet: &Packet) {
    let text = packet.to_string();
    assert!(packet.matches_tcpdump(&format!("12:00:00.000001 {text}")) || text.is_empty());
    for state in [ChecksumState::Complete, ChecksumState::NotReady] {
        let canonical = packet.canonical_inner(state);
        assert!(canonical.is_none_or(|bytes| bytes.len() == packet.inner_bytes().unwrap().len()));
        assert!(packet.transport_checksum(state).is_none() || packet.transport().is_some());
    }
    assert!(
        packet
            .inner_bytes()
            .is_none_or(|inner| inner.len() <= packet.bytes().len())
    );
    assert!(packet.payload().len() <= packet.payload_length());
    if let Some(quoted) = packet.quoted() {
        exercise(&quoted);
    }
    let mut end = 0;
    for layer in packet.layers() {
        assert_eq!(layer.range.start, end, "layers follow one another");
        end = layer.range.end;
    }
    assert!(end <= packet.bytes().len());
}

#[test]
fn a_packet_cut_at_any_length_keeps_its_leading_headers() {
    let frame = frames::ethernet(0x0800, &frames::ipip(&frames::syn()));
    let whole = Packet::decode(LinkType::Ethernet, frame.clone());
    let mut kept = 0;
    for length in 0..frame.len() {
        for wire_length in [length, frame.len()] {
            let packet =
                Packet::decode_cut(LinkType::Ethernet, frame[..length].to_vec(), wire_length);
            exercise(&packet);
            assert!(
                packet.stop().is_some(),
                "{length} bytes are not the whole packet"
            );
            for (cut, original) in packet.layers().iter().zip(whole.layers()) {
                if cut.range == original.range {
                    assert_eq!(cut, original);
                }
            }
            kept = packet.layers().len();
        }
    }
    // The last byte that was missing belongs to the TCP options; the ports are there.
    assert_eq!(kept, whole.layers().len());
    assert_eq!(whole.stop(), None);
}

#[test]
fn an_empty_packet_has_nothing_and_says_so() {
    for link_type in [LinkType::Ethernet, LinkType::Ip] {
        let packet = Packet::decode(link_type, Vec::new());
        assert!(packet.layers().is_empty());
        assert!(matches!(
            packet.stop(),
            Some(Stop::HeaderCut { present: 0, .. })
        ));
    }
}

/// Valid packets to damage.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(frames::ipip(&frames::syn())),
        Just(frames::ipip(&frames::ipip(&frames::udp(
            53, 4000, b"payload"
        )))),
        Just(frames::icmp(3, 3, [0; 4], &frames::udp(1, 2, b""))),
        Just(frames::tcp(
            0x18,
            1,
            1,
            &[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            b"GET / HTTP/1.1"
        )),
    ]
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise(&Packet::decode(LinkType::Ethernet, bytes.clone()));
        exercise(&Packet::decode(LinkType::Ip, bytes));
    }

    #[test]
    fn damaged_packets_never_panic(
        mut packet in packets(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
        extra in 0usize..2000,
    ) {
        for (at, byte) in damage {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        packet.truncate(length.index(packet.len() + 1));
        let wire_length = packet.len() + extra;
        exercise(&Packet::decode_cut(LinkType::Ip, packet.clone(), wire_length));
        exercise(&Packet::decode(LinkType::Ip, packet.clone()));
        exercise(&Packet::decode(LinkType::Ethernet, frames::ethernet(0x0800, &packet)));
    }
}
