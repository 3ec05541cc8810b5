//! The text of packets. Every expected line here was printed by tcpdump 4.99.3;
//! `tests/tcpdump.rs` asks the installed one again.

use super::super::*;
use super::{ethernet, frames, raw};

const SEED_LINE: &str = "IP 10.12.22.2 > 10.12.22.3: IP 192.168.1.12.46282 > 192.168.2.6.8080: \
     Flags [S], seq 2194532999, win 28000, options [mss 1400,sackOK,TS val 248040654 ecr 0,\
     nop,wscale 7], length 0";

#[track_caller]
fn assert_text(packet: &[u8], text: &str) {
    assert_eq!(ethernet(packet).to_string(), text);
}

#[test]
fn tcp() {
    assert_text(&frames::ipip(&frames::syn()), SEED_LINE);
    assert_text(
        &frames::tcp(0x18, 4_294_967_280, 7, b"", b"GET / HTTP/1.1\r\n\r\n"),
        "IP 192.168.1.12.46282 > 192.168.2.6.8080: Flags [P.], seq 4294967280:2, ack 7, \
         win 28000, length 18",
    );
    assert_text(
        &frames::tcp(0, 5, 0, b"", b""),
        "IP 192.168.1.12.46282 > 192.168.2.6.8080: Flags [none], win 28000, length 0",
    );
    assert_text(
        &frames::tcp(0xff, 5, 7, b"", b"x"),
        "IP 192.168.1.12.46282 > 192.168.2.6.8080: Flags [FSRP.UEW], seq 5:6, ack 7, win 28000, \
         urg 0, length 1",
    );
    assert_text(
        &frames::tcp(16, 5, 7, &[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2], b""),
        "IP 192.168.1.12.46282 > 192.168.2.6.8080: Flags [.], ack 7, win 28000, \
         options [nop,nop,sack 1 {1:2}], length 0",
    );
    assert_text(
        &frames::tcp(2, 5, 7, &[34, 6, b'a', b'b', b'c', b'd', 253, 2], b""),
        "IP 192.168.1.12.46282 > 192.168.2.6.8080: Flags [S], seq 5, win 28000, \
         options [tfo  cookie 61626364,unknown-253], length 0",
    );
}

#[test]
fn icmp() {
    let quoted = frames::udp(1, 2000, b"");
    assert_text(
        &frames::icmp(8, 0, [0, 7, 0, 9], b"ping"),
        "IP 192.168.1.12 > 192.168.2.6: ICMP echo request, id 7, seq 9, length 12",
    );
    assert_text(
        &frames::icmp(3, 4, [0, 0, 0x05, 0xc8], &quoted),
        "IP 192.168.1.12 > 192.168.2.6: ICMP 192.168.2.6 unreachable - need to frag (mtu 1480), \
         length 36",
    );
    assert_text(
        &frames::icmp(3, 3, [0; 4], &quoted),
        "IP 192.168.1.12 > 192.168.2.6: ICMP 192.168.2.6 udp port 2000 unreachable, length 36",
    );
    assert_text(
        &frames::icmp(11, 0, [0; 4], &quoted),
        "IP 192.168.1.12 > 192.168.2.6: ICMP time exceeded in-transit, length 36",
    );
}

#[test]
fn arp_and_others() {
    let arp = |operation, target| {
        let frame = frames::ethernet(0x0806, &frames::arp(operation, target));
        Packet::decode(LinkType::Ethernet, frame).to_string()
    };
    assert_eq!(
        arp(1, [0; 6]),
        "ARP, Request who-has 192.168.2.6 tell 192.168.1.12, length 28"
    );
    assert_eq!(
        arp(2, [0; 6]),
        "ARP, Reply 192.168.1.12 is-at 02:00:00:00:00:0a, length 28"
    );
    assert_text(
        &frames::udp(1, 2, b"abc"),
        "IP 192.168.1.12.1 > 192.168.2.6.2: UDP, length 3",
    );
    assert_text(
        &frames::ipip(&frames::ipv4(253, frames::POD_A, frames::POD_B, b"abc")),
        "IP 10.12.22.2 > 10.12.22.3: IP 192.168.1.12 > 192.168.2.6:  ip-proto-253 3",
    );
    assert_text(
        &frames::ipip(&frames::syn())[..79],
        "IP truncated-ip - 1 bytes missing! 10.12.22.2 > 10.12.22.3: IP 192.168.1.12.46282 > \
         192.168.2.6.8080: Flags [S], seq 2194532999, win 28000, \
         options [mss 1400,sackOK,TS val 248040654 ecr 0,nop, [|tcp]",
    );
}

#[test]
fn a_line_matches_with_its_stamp_and_in_the_older_spelling() {
    let packet = ethernet(&frames::ipip(&frames::syn()));
    for stamp in [
        "",
        "12:34:56.789012 ",
        "1769862896.123456 ",
        "2026-01-31 12:34:56.789012 ",
    ] {
        assert!(packet.matches_tcpdump(&format!("{stamp}{SEED_LINE}")));
        assert!(packet.matches_tcpdump(&format!("{stamp}{SEED_LINE} (ipip-proto-4)\n")));
    }
}

#[test]
fn a_line_with_any_one_difference_does_not_match() {
    let packet = ethernet(&frames::ipip(&frames::syn()));
    for (right, wrong) in [
        ("10.12.22.3", "10.12.22.4"),
        ("46282", "46283"),
        ("192.168.2.6", "192.168.2.7"),
        ("[S]", "[S.]"),
        ("2194532999", "2194532998"),
        ("win 28000", "win 2800"),
        ("mss 1400", "mss 1440"),
        ("sackOK,", ""),
        ("val 248040654", "val 248040655"),
        ("length 0", "length 01"),
        ("length 0", "length 0: HTTP"),
        ("length 0", "length 0 (ipip-proto-4) (ipip-proto-4)"),
    ] {
        let line = SEED_LINE.replacen(right, wrong, 1);
        assert_ne!(line, SEED_LINE);
        assert!(!packet.matches_tcpdump(&line), "{line}");
    }
}

#[test]
fn an_inner_packet_is_not_taken_for_its_encapsulation() {
    let inner = raw(frames::syn());
    let outer = raw(frames::ipip(&frames::syn()));
    assert!(!inner.matches_tcpdump(SEED_LINE));
    assert!(!outer.matches_tcpdump(&inner.to_string()));
    assert!(!inner.matches_tcpdump(&format!("{inner} (ipip-proto-4)")));
}

#[test]
fn application_text_is_allowed_only_behind_a_payload() {
    let get = raw(frames::ipip(&frames::tcp(
        0x18,
        5,
        7,
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
    )));
    assert!(get.matches_tcpdump(&format!("12:00:00.1 {get}: HTTP: GET / HTTP/1.1")));
    assert!(get.matches_tcpdump(&format!("{get}: HTTP: GET / HTTP/1.1 (ipip-proto-4)")));
    assert!(!get.matches_tcpdump(&format!("{get}8: HTTP: GET / HTTP/1.1")));
    let ntp = raw(frames::udp(1000, 123, &[0; 48]));
    let addresses = "IP 192.168.1.12.1000 > 192.168.2.6.123: ";
    assert!(ntp.matches_tcpdump(&format!("{addresses}NTPv4, symmetric active, length 48")));
    assert!(!ntp.matches_tcpdump(&format!("{addresses}UDP, length 47")));
    assert!(!ntp.matches_tcpdump(&format!("{addresses}Flags [S], seq 5, win 28000, length 0")));
    assert!(!ntp.matches_tcpdump("IP 192.168.1.12.1000 > 192.168.2.6.124: NTPv4, length 48"));
}
