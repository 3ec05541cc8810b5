//! The parts of a ping that need no socket.

use super::packet::{Answer, Echo};
use super::*;
use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode};
use etherparse::{Icmpv4Type, IpNumber, Ipv4Header, PacketBuilder};
use proptest::prelude::*;
use rstest::rstest;

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 0);
const POD: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const TARGET: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 6);

fn echo() -> Echo {
    Echo {
        target: TARGET,
        identifier: 0x1234,
        sequence: 7,
        payload_len: 56,
    }
}

fn packet(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, icmp: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from.octets(), to.octets(), ttl)
        .icmpv4(icmp)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

fn reply_to(echo: &Echo) -> Vec<u8> {
    let reply = Icmpv4Type::EchoReply(etherparse::IcmpEchoHeader {
        id: echo.identifier,
        seq: echo.sequence,
    });
    packet(echo.target, POD, 62, reply, &echo.to_bytes()[8..])
}

/// The request as a router received it.
fn request(echo: &Echo) -> Vec<u8> {
    let message = echo.to_bytes();
    let len = message.len().try_into().unwrap();
    let header =
        Ipv4Header::new(len, 63, IpNumber::ICMP, POD.octets(), echo.target.octets()).unwrap();
    [header.to_bytes().as_slice(), &message].concat()
}

fn too_big(quote: &[u8]) -> Vec<u8> {
    let error = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1440 };
    packet(
        ROUTER,
        POD,
        64,
        Icmpv4Type::DestinationUnreachable(error),
        quote,
    )
}

/// Writes the checksum of the ICMP message in an IPv4 packet without options.
fn set_checksum(packet: &mut [u8]) {
    packet[22..24].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new()
        .add_slice(&packet[20..])
        .ones_complement();
    // The sum is in the order of memory already.
    packet[22..24].copy_from_slice(&sum.to_ne_bytes());
}

#[test]
fn a_request_is_an_echo_request_with_a_valid_checksum() {
    let bytes = echo().to_bytes();
    assert_eq!(bytes.len(), 64);
    assert_eq!(bytes[..2], [8, 0]);
    assert_eq!(bytes[4..8], [0x12, 0x34, 0, 7]);
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}

#[test]
fn payloads_differ_from_request_to_request_and_along_the_packet() {
    let first = echo().to_bytes();
    let second = Echo {
        sequence: 8,
        ..echo()
    };
    assert_ne!(first[8..], second.to_bytes()[8..]);
    assert_ne!(first[8..24], first[24..40]);
}

#[test]
fn the_reply_is_known_and_its_ttl_read() {
    let answer = echo().answer(&reply_to(&echo()));
    let from = TARGET;
    assert_eq!(answer, Some(Answer::Reply { from, ttl: 62 }));
}

#[test]
fn an_ip_header_with_options_is_skipped() {
    let mut packet = reply_to(&echo());
    packet[0] = 0x46;
    packet[3] += 4;
    packet.splice(20..20, [1, 1, 1, 0]);
    assert!(matches!(echo().answer(&packet), Some(Answer::Reply { .. })));
}

#[rstest]
#[case::identifier(Echo { identifier: 1, ..echo() })]
#[case::sequence(Echo { sequence: 6, ..echo() })]
fn the_reply_to_another_request_is_passed_over(#[case] other: Echo) {
    assert_eq!(echo().answer(&reply_to(&other)), None);
}

/// On loopback a raw socket may see the request too.
#[test]
fn a_request_is_no_reply() {
    assert_eq!(echo().answer(&request(&echo())), None);
}

#[test]
fn a_changed_byte_is_corruption_even_if_the_checksum_was_mended() {
    let mut packet = reply_to(&echo());
    packet[28 + 17] ^= 0x20;
    set_checksum(&mut packet);
    let corruption = Corruption::Payload { offset: 17 };
    let from = TARGET;
    assert_eq!(
        echo().answer(&packet),
        Some(Answer::Corrupted { from, corruption })
    );
}

#[test]
fn a_shortened_payload_is_corruption() {
    let short = Echo {
        payload_len: 40,
        ..echo()
    };
    let corruption = Corruption::Length {
        received: 40,
        sent: 56,
    };
    let from = TARGET;
    assert_eq!(
        echo().answer(&reply_to(&short)),
        Some(Answer::Corrupted { from, corruption })
    );
}

#[test]
fn a_wrong_checksum_is_corruption() {
    let mut packet = reply_to(&echo());
    packet[22] ^= 1;
    let corruption = Corruption::Checksum;
    let from = TARGET;
    assert_eq!(
        echo().answer(&packet),
        Some(Answer::Corrupted { from, corruption })
    );
}

#[rstest]
#[case::whole_request(request(&echo()))]
#[case::header_and_eight_bytes(request(&echo())[..28].to_vec())]
fn an_error_that_quotes_our_request_is_ours(#[case] quote: Vec<u8>) {
    let error = IcmpError::FragmentationNeeded { mtu: 1440 };
    let router = ROUTER;
    assert_eq!(
        echo().answer(&too_big(&quote)),
        Some(Answer::Error { router, error })
    );
}

#[rstest]
#[case::another_identifier(request(&Echo { identifier: 1, ..echo() }))]
#[case::another_sequence(request(&Echo { sequence: 1, ..echo() }))]
#[case::another_target(request(&Echo { target: POD, ..echo() }))]
#[case::a_reply({ let mut quote = request(&echo()); quote[20] = 0; quote })]
#[case::seven_bytes(request(&echo())[..27].to_vec())]
#[case::nothing(Vec::new())]
#[case::another_protocol({ let mut quote = request(&echo()); quote[9] = 17; quote })]
#[case::a_later_fragment({ let mut quote = request(&echo()); quote[7] = 185; quote })]
fn an_error_that_quotes_something_else_is_passed_over(#[case] quote: Vec<u8>) {
    assert_eq!(echo().answer(&too_big(&quote)), None);
}

#[test]
fn an_error_with_a_wrong_checksum_is_passed_over() {
    let mut packet = too_big(&request(&echo()));
    packet[26] ^= 1;
    assert_eq!(echo().answer(&packet), None);
}

#[rstest]
#[case(
    Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FilterProhibited),
    IcmpError::Unreachable { code: 13 },
    "administratively prohibited"
)]
#[case(
    Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host),
    IcmpError::Unreachable { code: 1 },
    "host unreachable"
)]
#[case(
    Icmpv4Type::Unknown { type_u8: 3, code_u8: 99, bytes5to8: [0; 4] },
    IcmpError::Unreachable { code: 99 },
    "destination unreachable, code 99"
)]
#[case(
    Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
    IcmpError::TimeExceeded { code: 0 },
    "time to live exceeded"
)]
#[case(
    Icmpv4Type::TimeExceeded(TimeExceededCode::FragmentReassemblyTimeExceeded),
    IcmpError::TimeExceeded { code: 1 },
    "fragment reassembly time exceeded"
)]
#[case(
    Icmpv4Type::Unknown { type_u8: 12, code_u8: 0, bytes5to8: [20, 0, 0, 0] },
    IcmpError::ParameterProblem { pointer: 20 },
    "parameter problem at byte 20"
)]
fn every_error_has_its_type_and_words(
    #[case] icmp: Icmpv4Type,
    #[case] error: IcmpError,
    #[case] words: &str,
) {
    let answer = echo().answer(&packet(ROUTER, POD, 64, icmp, &request(&echo())));
    let router = ROUTER;
    assert_eq!(answer, Some(Answer::Error { router, error }));
    assert_eq!(error.to_string(), words);
}

#[test]
fn a_redirect_is_no_error() {
    let redirect = Icmpv4Type::Unknown {
        type_u8: 5,
        code_u8: 1,
        bytes5to8: ROUTER.octets(),
    };
    let packet = packet(ROUTER, POD, 64, redirect, &request(&echo()));
    assert_eq!(echo().answer(&packet), None);
}

#[test]
fn an_error_names_target_router_and_what_it_said() {
    let error = PingError::Icmp {
        target: TARGET,
        router: ROUTER,
        error: IcmpError::FragmentationNeeded { mtu: 1440 },
    };
    assert_eq!(
        error.to_string(),
        "ping 192.168.2.6: 192.168.1.0 says fragmentation needed, mtu 1440"
    );
}

#[rstest]
#[case(467, "0.467")]
#[case(1_234, "1.23")]
#[case(12_340, "12.3")]
#[case(123_400, "123")]
#[case(1_234_000, "1234")]
fn a_reply_reads_like_a_line_of_ping(#[case] micros: u64, #[case] time: &str) {
    let reply = EchoReply {
        from: TARGET,
        ttl: 62,
        rtt: Duration::from_micros(micros),
        payload: 56,
        sequence: 1,
        identifier: 0x1234,
    };
    assert_eq!(
        reply.to_string(),
        format!("64 bytes from 192.168.2.6: icmp_seq=1 ttl=62 time={time} ms")
    );
}

#[test]
fn identifiers_differ() {
    let first = next_identifier();
    assert_ne!(first, next_identifier());
}

proptest! {
    /// Bytes from the wire may be anything: no panic, and noise is no answer.
    #[test]
    fn noise_is_no_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(echo().answer(&bytes), None);
    }

    #[test]
    fn a_cut_packet_is_no_answer(len in 0usize..84) {
        prop_assert_eq!(echo().answer(&reply_to(&echo())[..len]), None);
        prop_assert_eq!(echo().answer(&too_big(&request(&echo()))[..len]), None);
    }

    /// Whichever bit of a reply flips, it never passes for the payload that was sent. (Outside
    /// the ICMP message it is the kernel that checks.)
    #[test]
    fn a_flipped_bit_never_passes_for_a_reply(byte in 20usize..84, bit in 0u8..8) {
        let mut packet = reply_to(&echo());
        packet[byte] ^= 1 << bit;
        let answer = echo().answer(&packet);
        let passed = matches!(answer, Some(Answer::Reply { .. }));
        prop_assert!(!passed, "{:?}", answer);
    }

    /// A hostile quote must not crash the reader, whatever its lengths claim.
    #[test]
    fn a_garbled_quote_does_no_harm(
        position in 0usize..28,
        value: u8,
        len in 0usize..84,
    ) {
        let mut quote = request(&echo());
        quote[position] = value;
        let kept = len.min(quote.len());
        let answer = echo().answer(&too_big(&quote[..kept]));
        let is_reply = matches!(answer, Some(Answer::Reply { .. } | Answer::Corrupted { .. }));
        prop_assert!(!is_reply);
    }

    #[test]
    fn every_request_is_answered_by_its_own_reply(
        identifier: u16, sequence: u16, payload_len in 0usize..2000,
    ) {
        let echo = Echo { target: TARGET, identifier, sequence, payload_len };
        let from = TARGET;
        let expected = Some(Answer::Reply { from, ttl: 62 });
        prop_assert_eq!(echo.answer(&reply_to(&echo)), expected);
    }
}
