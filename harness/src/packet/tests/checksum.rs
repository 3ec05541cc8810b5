//! Checksums, and the form in which two taps are compared.

use proptest::prelude::*;

use super::super::*;
use super::{frames, raw};

/// Offset of the TCP checksum in a packet with a plain IPv4 header.
const TCP_CHECKSUM: usize = 20 + 16;

fn verdict(packet: &[u8]) -> Option<ChecksumVerdict> {
    raw(packet.to_vec()).transport_checksum(ChecksumState::Complete)
}

#[test]
fn right_checksums_are_right() {
    for packet in [
        frames::syn(),
        frames::udp(1, 2, b"odd"),
        frames::icmp(8, 0, [0, 1, 0, 2], b"ping"),
        frames::ipip(&frames::syn()),
    ] {
        assert_eq!(verdict(&packet), Some(ChecksumVerdict::Correct));
        assert!(raw(packet).ipv4_headers().all(|ip| ip.checksum_correct));
    }
}

#[test]
fn a_wrong_checksum_is_told_with_the_right_one() {
    let right = frames::syn();
    let expected = u16::from_be_bytes([right[TCP_CHECKSUM], right[TCP_CHECKSUM + 1]]);
    let mut wrong = right.clone();
    wrong[TCP_CHECKSUM] ^= 0x40;
    let found = expected ^ 0x4000;
    assert_eq!(
        verdict(&wrong),
        Some(ChecksumVerdict::Wrong { found, expected })
    );
    wrong[8] -= 1;
    assert!(
        !raw(wrong).inner_ipv4().unwrap().checksum_correct,
        "ttl changed, header sum not"
    );
}

#[test]
fn what_cannot_be_verified_is_not_called_wrong() {
    let mut no_checksum = frames::udp(1, 2, b"x");
    no_checksum[26..28].fill(0);
    assert_eq!(verdict(&no_checksum), Some(ChecksumVerdict::Absent));
    let whole = frames::tcp(16, 1, 1, b"", b"payload");
    assert_eq!(
        verdict(&whole[..whole.len() - 1]),
        Some(ChecksumVerdict::Unverifiable)
    );
    let fragment = |header: &mut etherparse::Ipv4Header| header.more_fragments = true;
    let first = frames::ipv4_with(6, frames::POD_A, frames::POD_B, &whole[20..], fragment);
    assert_eq!(verdict(&first), Some(ChecksumVerdict::Unverifiable));
    let ready = raw(whole).transport_checksum(ChecksumState::NotReady);
    assert_eq!(ready, Some(ChecksumVerdict::NotReady));
    assert_eq!(
        verdict(&frames::ipv4(47, frames::POD_A, frames::POD_B, b"")),
        None
    );
}

/// The same packet as a tap on a veth sees it: the checksum is left to the hardware.
fn partial(mut packet: Vec<u8>, protocol: u8, field: usize) -> Vec<u8> {
    let sum = frames::partial_sum(protocol, frames::POD_A, frames::POD_B, packet.len() - 20);
    packet[20 + field..22 + field].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The same packet one hop further.
fn forwarded(mut packet: Vec<u8>) -> Vec<u8> {
    let mut header = etherparse::Ipv4Header::from_slice(&packet).unwrap().0;
    header.time_to_live -= 1;
    header.header_checksum = header.calc_header_checksum();
    packet[..20].copy_from_slice(&header.to_bytes());
    packet
}

#[test]
fn the_same_packet_is_canonically_equal_at_every_tap() {
    let at_pod = frames::tcp(0x18, 7, 9, b"", b"GET / HTTP/1.0\r\n\r\n");
    let complete = raw(at_pod.clone())
        .canonical_inner(ChecksumState::Complete)
        .unwrap();
    let taps = [
        raw(partial(at_pod.clone(), 6, 16)),
        raw(forwarded(partial(at_pod.clone(), 6, 16))),
        raw(frames::ipip(&forwarded(partial(at_pod.clone(), 6, 16)))),
    ];
    for tap in taps {
        assert_eq!(
            tap.canonical_inner(ChecksumState::NotReady).as_ref(),
            Some(&complete)
        );
        assert_ne!(
            tap.canonical_inner(ChecksumState::Complete).as_ref(),
            Some(&complete)
        );
    }
    let on_wire = raw(frames::ipip(&forwarded(at_pod)));
    assert_eq!(
        on_wire.canonical_inner(ChecksumState::Complete),
        Some(complete)
    );
}

#[test]
fn udp_whose_sum_is_zero_is_completed_as_all_ones() {
    // Chosen so that the whole sum is zero: the payload is the checksum of the rest.
    let empty = frames::udp(1, 2, &[0, 0]);
    let payload = [empty[26], empty[27]];
    let packet = frames::udp(1, 2, &payload);
    assert_eq!(
        packet[26..28],
        [0xff, 0xff],
        "the sender writes 0xffff for zero"
    );
    let completed = raw(partial(packet.clone(), 17, 6)).canonical_inner(ChecksumState::NotReady);
    assert_eq!(
        completed,
        raw(packet).canonical_inner(ChecksumState::Complete)
    );
}

#[test]
fn a_packet_that_is_not_whole_has_no_canonical_form() {
    let packet = frames::syn();
    let cut = raw(packet[..packet.len() - 1].to_vec());
    assert_eq!(cut.canonical_inner(ChecksumState::Complete), None);
}

proptest! {
    #[test]
    fn every_other_byte_counts(at in 0usize..60, flip in 1u8..) {
        let original = frames::syn();
        let mut changed = original.clone();
        changed[at] ^= flip;
        // Version, header length and total length decide what the inner packet is at all.
        prop_assume!(!(0..4).contains(&at));
        let of = |packet| raw(packet).canonical_inner(ChecksumState::Complete);
        let changed_by_forwarding = at == 8 || at == 10 || at == 11;
        prop_assert_eq!(of(original) == of(changed), changed_by_forwarding);
    }
}
