//! Which packets a pattern means.

use rstest::rstest;

use super::*;
use crate::packet::TcpFlags;

fn a_to_b() -> Packets<Tcp> {
    tcp(POD_A, POD_B)
}

fn from_b_to_a() -> Packets<Tcp> {
    tcp(POD_B, POD_A)
}

#[rstest]
#[case::addresses(a_to_b().into(), true)]
#[case::anybody(tcp(ANYBODY, ANYBODY).into(), true)]
#[case::the_other_way(tcp(POD_B, POD_A).into(), false)]
#[case::ports(tcp((POD_A, 46282), (POD_B, 8080)).into(), true)]
#[case::another_source_port(tcp((POD_A, 1), (POD_B, 8080)).into(), false)]
#[case::another_port(a_to_b().to_port(80).into(), false)]
#[case::a_network(ip("192.168.1.0/24".parse::<ipnet::Ipv4Net>().unwrap(), ANYBODY).into(), true)]
#[case::one_of(ip(&[NODE_A, POD_A][..], &[POD_B][..]).into(), true)]
#[case::none_of(ip(&[NODE_A, NODE_B][..], ANYBODY).into(), false)]
#[case::flags(a_to_b().syn().into(), true)]
#[case::flags_are_all(a_to_b().syn().ack().into(), false)]
#[case::flags_among_others(a_to_b().has(TcpFlags::SYN).into(), true)]
#[case::flags_not_there(a_to_b().has(TcpFlags::SYN | TcpFlags::ACK).into(), false)]
#[case::sequence(a_to_b().sequence(2_194_532_999).into(), true)]
#[case::another_sequence(a_to_b().sequence(7).into(), false)]
#[case::window(a_to_b().window(28000).into(), true)]
#[case::mss(a_to_b().mss(1400).into(), true)]
#[case::another_mss(a_to_b().mss(1440).into(), false)]
#[case::ttl(a_to_b().ttl(64).into(), true)]
#[case::another_ttl(a_to_b().ttl(63).into(), false)]
#[case::tos(a_to_b().tos(0).into(), true)]
#[case::another_tos(a_to_b().tos(4).into(), false)]
#[case::dscp(a_to_b().dscp(0).into(), true)]
#[case::another_dscp(a_to_b().dscp(46).into(), false)]
#[case::ecn(a_to_b().ecn(0).into(), true)]
#[case::another_ecn(a_to_b().ecn(3).into(), false)]
#[case::dont_fragment(a_to_b().dont_fragment(true).into(), true)]
#[case::may_fragment(a_to_b().dont_fragment(false).into(), false)]
#[case::more_fragments(a_to_b().more_fragments(false).into(), true)]
#[case::offset(a_to_b().fragment_offset(8).into(), false)]
#[case::length(a_to_b().length(60).into(), true)]
#[case::another_length(a_to_b().length(61).into(), false)]
#[case::at_least(a_to_b().length_at_least(60).into(), true)]
#[case::not_so_long(a_to_b().length_at_least(61).into(), false)]
#[case::at_most(a_to_b().length_at_most(59).into(), false)]
#[case::checksum(a_to_b().header_checksum(true).into(), true)]
#[case::wrong_checksum(a_to_b().header_checksum(false).into(), false)]
#[case::no_payload(a_to_b().payload_length(0).into(), true)]
#[case::payload(a_to_b().payload("x").into(), false)]
#[case::protocol(ip(POD_A, POD_B).protocol(6).into(), true)]
#[case::another_protocol(ip(POD_A, POD_B).protocol(17).into(), false)]
#[case::udp(udp(POD_A, POD_B).into(), false)]
#[case::icmp(icmp(POD_A, POD_B).into(), false)]
#[case::arp(arp().into(), false)]
#[case::encapsulated(ipip(ANYBODY, ANYBODY).into(), false)]
#[case::out(a_to_b().going(Direction::Outgoing).into(), true)]
#[case::incoming(a_to_b().going(Direction::Incoming).into(), false)]
#[case::or(udp(POD_A, POD_B).or(a_to_b()), true)]
fn a_plain_syn(#[case] pattern: Pattern, #[case] matches: bool) {
    let packet = one(frames::syn());
    assert_eq!(pattern.matches(&packet), matches, "{pattern}");
    // The report says the same as the matcher.
    let differs = pattern.compare(&packet).iter().any(|row| !row.holds);
    assert_eq!(!differs, matches, "{:?}", pattern.compare(&packet));
}

#[rstest]
#[case::from_port(from_b_to_a().from_port(8080).into(), true)]
#[case::from_another_port(from_b_to_a().from_port(46282).into(), false)]
#[case::acknowledgment(from_b_to_a().acknowledgment(2).into(), true)]
#[case::another_acknowledgment(from_b_to_a().acknowledgment(1).into(), false)]
#[case::another_window(from_b_to_a().window(1).into(), false)]
#[case::flags(from_b_to_a().fin().psh().ack().into(), true)]
#[case::without_fin(from_b_to_a().psh().ack().into(), false)]
#[case::without_psh(from_b_to_a().fin().ack().into(), false)]
#[case::with_rst(from_b_to_a().fin().psh().ack().rst().into(), false)]
#[case::payload_length(from_b_to_a().payload_length(3).into(), true)]
#[case::another_payload_length(from_b_to_a().payload_length(4).into(), false)]
#[case::at_most(from_b_to_a().length_at_most(43).into(), true)]
fn an_answer_that_ends_a_connection(#[case] pattern: Pattern, #[case] matches: bool) {
    let packet = one(from_b(0x19, b"bye"));
    assert_eq!(pattern.matches(&packet), matches, "{pattern}");
}

#[test]
fn a_header_is_known_by_its_identification_and_checksum() {
    let mut packet = frames::ipv4_with(17, frames::POD_A, frames::POD_B, &[0; 8], |header| {
        header.identification = 7;
    });
    let is = |pattern: Packets<Udp>, packet: &[u8]| {
        Pattern::from(pattern).matches(&one(packet.to_vec()))
    };
    let any = || udp(ANYBODY, ANYBODY);
    assert!(is(any().identification(7), &packet) && !is(any().identification(8), &packet));
    assert!(!is(any().header_checksum(false), &packet));
    packet[10] ^= 1;
    assert!(is(any().header_checksum(false), &packet) && !is(any().header_checksum(true), &packet));
}

#[rstest]
#[case::outer_and_inner(ipip(NODE_A, NODE_B).around(a_to_b().syn()), true)]
#[case::outer_alone(ipip(NODE_A, NODE_B).into(), true)]
#[case::outer_ttl(ipip(NODE_A, NODE_B).ttl(64).around(a_to_b()), true)]
#[case::another_outer_ttl(ipip(NODE_A, NODE_B).ttl(63).around(a_to_b()), false)]
#[case::another_inner_ttl(ipip(NODE_A, NODE_B).around(a_to_b().ttl(63)), false)]
#[case::another_node(ipip(NODE_B, NODE_A).around(a_to_b()), false)]
#[case::another_inside(ipip(NODE_A, NODE_B).around(udp(POD_A, POD_B)), false)]
#[case::one_of_two_inside(ipip(NODE_A, NODE_B).around(udp(POD_A, POD_B).or(a_to_b())), true)]
#[case::inner_alone(a_to_b().into(), false)]
#[case::any_ip(ip(ANYBODY, ANYBODY).into(), false)]
#[case::at_any_depth(a_to_b().at_any_depth(), true)]
#[case::twice(ipip(NODE_A, NODE_B).around(ipip(NODE_A, NODE_B).around(a_to_b())), false)]
#[case::twice_at_least(ipip(NODE_A, NODE_B).around(ipip(NODE_A, NODE_B)), false)]
fn an_encapsulated_syn(#[case] pattern: Pattern, #[case] matches: bool) {
    let packet = one(frames::ipip(&frames::syn()));
    assert_eq!(pattern.matches(&packet), matches, "{pattern}");
    let differs = pattern.compare(&packet).iter().any(|row| !row.holds);
    assert_eq!(!differs, matches, "{:?}", pattern.compare(&packet));
}

#[rstest]
#[case::twice(ipip(NODE_A, NODE_B).around(ipip(NODE_A, NODE_B).around(a_to_b())), true)]
#[case::twice_at_least(ipip(NODE_A, NODE_B).around(ipip(NODE_A, NODE_B)), true)]
#[case::once(ipip(NODE_A, NODE_B).around(a_to_b()), false)]
#[case::once_at_least(ipip(NODE_A, NODE_B).into(), true)]
#[case::any_depth(a_to_b().at_any_depth(), true)]
#[case::last_two(ipip(NODE_A, NODE_B).around(a_to_b()).at_any_depth(), true)]
fn twice_encapsulated(#[case] pattern: Pattern, #[case] matches: bool) {
    let packet = one(frames::ipip(&frames::ipip(&frames::syn())));
    assert_eq!(pattern.matches(&packet), matches, "{pattern}");
}

#[rstest]
#[case::request(icmp(POD_A, POD_B).echo_request().into(), true)]
#[case::reply(icmp(POD_A, POD_B).echo_reply().into(), false)]
#[case::id(icmp(POD_A, POD_B).id(0x102).into(), true)]
#[case::sequence(icmp(POD_A, POD_B).sequence(0x304).into(), true)]
#[case::another_sequence(icmp(POD_A, POD_B).sequence(1).into(), false)]
#[case::payload(icmp(POD_A, POD_B).payload("abc").into(), true)]
#[case::begins(icmp(POD_A, POD_B).payload_begins("ab").into(), true)]
#[case::does_not_begin(icmp(POD_A, POD_B).payload_begins("b").into(), false)]
#[case::contains(icmp(POD_A, POD_B).payload_contains("bc").into(), true)]
#[case::contains_not(icmp(POD_A, POD_B).payload_contains("ac").into(), false)]
#[case::error(icmp(POD_A, POD_B).unreachable(0).into(), false)]
fn a_ping(#[case] pattern: Pattern, #[case] matches: bool) {
    let packet = one(frames::icmp(8, 0, [1, 2, 3, 4], b"abc"));
    assert_eq!(pattern.matches(&packet), matches, "{pattern}");
}

#[test]
fn icmp_errors_are_told_apart_by_type_and_code() {
    let unreachable = one(frames::icmp(3, 1, [0; 4], &frames::syn()));
    let too_big = one(frames::icmp(3, 4, [0, 0, 5, 0x8c], &frames::syn()));
    let any = || icmp(ANYBODY, ANYBODY);
    let is = |pattern: Packets<Icmp>, packet| Pattern::from(pattern).matches(packet);
    assert!(is(any().unreachable(1), &unreachable) && !is(any().unreachable(0), &unreachable));
    assert!(is(any().fragmentation_needed(1420), &too_big));
    assert!(!is(any().fragmentation_needed(1400), &too_big) && !is(any().unreachable(4), &too_big));
    let expired = one(frames::icmp(11, 0, [0; 4], &frames::syn()));
    assert!(is(any().time_exceeded(), &expired) && !is(any().time_exceeded(), &too_big));
}

#[rstest]
#[case::tos(udp(POD_A, POD_B).tos(0xb9).into(), true)]
#[case::no_tos(udp(POD_A, POD_B).tos(0).into(), false)]
#[case::dscp(udp(POD_A, POD_B).dscp(46).into(), true)]
#[case::another_dscp(udp(POD_A, POD_B).dscp(0xb9).into(), false)]
#[case::ecn(udp(POD_A, POD_B).ecn(1).into(), true)]
#[case::another_ecn(udp(POD_A, POD_B).ecn(3).into(), false)]
#[case::may_fragment(udp(POD_A, POD_B).dont_fragment(false).into(), true)]
#[case::dont_fragment(udp(POD_A, POD_B).dont_fragment(true).into(), false)]
#[case::port(udp(POD_A, (POD_B, 53)).into(), true)]
#[case::another_port(udp(POD_A, (POD_B, 54)).into(), false)]
#[case::another_source_port(udp((POD_A, 2), POD_B).into(), false)]
fn a_datagram_of_a_class_that_may_be_fragmented(#[case] pattern: Pattern, #[case] matches: bool) {
    // From port 1 to port 53, eight bytes, no checksum.
    let datagram = [0, 1, 0, 53, 0, 8, 0, 0];
    let mut packet = frames::ipv4_with(17, frames::POD_A, frames::POD_B, &datagram, |header| {
        header.dont_fragment = false;
    });
    packet[1] = 0xb9;
    assert_eq!(pattern.matches(&one(packet)), matches, "{pattern}");
}

#[test]
fn an_arp_reply_is_known_by_who_answers_whom() {
    let frame = frames::ethernet(0x0806, &frames::arp(2, frames::MAC_B));
    let packet = Captured {
        packet: Packet::decode(LinkType::Ethernet, frame),
        ..one(Vec::new())
    };
    let is = |pattern: Packets<Arp>| Pattern::from(pattern).matches(&packet);
    assert!(is(arp().reply().sender(POD_A).target(POD_B)));
    assert!(!is(arp().request()) && !is(arp().reply().sender(POD_B)));
}

#[test]
fn an_arp_request_is_known_by_whom_it_asks_for() {
    let packet = Packet::decode(
        LinkType::Ethernet,
        frames::ethernet(0x0806, &frames::arp(1, [0; 6])),
    );
    let packet = Captured {
        packet,
        ..one(Vec::new())
    };
    let is = |pattern: Packets<Arp>| Pattern::from(pattern).matches(&packet);
    assert!(is(arp()) && is(arp().request().target(POD_B).sender(POD_A)));
    assert!(!is(arp().reply()) && !is(arp().target(POD_A)) && !is(arp().sender(POD_B)));
    assert!(!Pattern::from(ip(ANYBODY, ANYBODY)).matches(&packet));
}

#[test]
fn a_later_fragment_of_a_tunnel_packet_is_encapsulated_and_no_leak() {
    let fragment = frames::ipv4_with(4, frames::NODE_A, frames::NODE_B, b"rest of it", |header| {
        header.dont_fragment = false;
        header.fragment_offset = 100.try_into().unwrap();
    });
    let packet = one(fragment);
    assert!(Pattern::from(ipip(NODE_A, NODE_B).fragment_offset(800)).matches(&packet));
    assert!(!Pattern::from(ip(ANYBODY, ANYBODY)).matches(&packet));
    assert!(
        !ipip(NODE_A, NODE_B)
            .around(ip(ANYBODY, ANYBODY))
            .matches(&packet)
    );
}
