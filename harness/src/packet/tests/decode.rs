//! Every header is read, at every depth, and its fields are the ones that were written.

use super::super::*;
use super::{ethernet, frames, raw};

#[test]
fn the_seed_syn_is_read_to_its_last_option() {
    let packet = ethernet(&frames::ipip(&frames::syn()));
    assert_eq!(packet.stop(), None);
    assert_eq!(packet.ipip_depth(), 1);
    let outer = packet.outer_ipv4().unwrap();
    assert_eq!(
        (outer.source, outer.destination),
        (frames::NODE_A.into(), frames::NODE_B.into())
    );
    assert_eq!((outer.protocol, outer.total_length), (4, 80));
    let inner = packet.inner_ipv4().unwrap();
    assert_eq!(
        (inner.source, inner.destination),
        (frames::POD_A.into(), frames::POD_B.into())
    );
    assert_eq!(
        (inner.ttl, inner.dont_fragment, inner.checksum_correct),
        (64, true, true)
    );
    let tcp = packet.tcp().unwrap();
    assert_eq!((tcp.source_port, tcp.destination_port), (46282, 8080));
    assert_eq!(
        (tcp.sequence, tcp.window, tcp.flags),
        (2_194_532_999, 28000, TcpFlags::SYN)
    );
    assert_eq!(
        tcp.options,
        [
            TcpOption::Mss(1400),
            TcpOption::SackPermitted,
            TcpOption::Timestamps {
                value: 248_040_654,
                echo: 0
            },
            TcpOption::Nop,
            TcpOption::WindowScale(7),
        ]
    );
    assert_eq!(packet.inner_bytes(), Some(&frames::syn()[..]));
}

#[test]
fn between_looks_at_the_inner_addresses_in_either_direction() {
    let packet = raw(frames::ipip(&frames::syn()));
    let (a, b) = (frames::POD_A.into(), frames::POD_B.into());
    let (node_a, node_b) = (frames::NODE_A.into(), frames::NODE_B.into());
    assert!(packet.is_between(a, b) && packet.is_between(b, a));
    assert!(!packet.is_between(a, a) && !packet.is_between(node_a, node_b));
    assert!(packet.outer_ipv4().unwrap().is_between(node_b, node_a));
}

#[test]
fn a_raw_device_has_no_link_header() {
    let packet = raw(frames::syn());
    assert_eq!(packet.ethernet(), None);
    assert_eq!(
        (packet.ipip_depth(), packet.tcp().unwrap().flags),
        (0, TcpFlags::SYN)
    );
}

#[test]
fn any_depth_of_ipip_is_followed() {
    let depth = 3000;
    let nested = (0..depth).fold(frames::udp(1, 2, b"x"), |inner, _| frames::ipip(&inner));
    let packet = raw(nested);
    assert_eq!((packet.ipip_depth(), packet.stop()), (depth, None));
    assert_eq!(packet.udp().unwrap().destination_port, 2);
    assert_eq!(packet.payload(), b"x");
    assert_eq!(packet.to_string().matches("IP ").count(), depth + 1);
}

#[test]
fn link_padding_is_not_payload() {
    let udp = frames::udp(1, 2, b"abc");
    let mut frame = frames::ethernet(0x0800, &udp);
    frame.resize(60, 0xee);
    let packet = Packet::decode(LinkType::Ethernet, frame);
    assert_eq!(
        (packet.payload(), packet.payload_length()),
        (&b"abc"[..], 3)
    );
    assert_eq!((packet.stop(), packet.wire_length()), (None, 60));
    assert_eq!(packet.inner_bytes(), Some(&udp[..]));

    let mut frame = frames::ethernet(0x0806, &frames::arp(1, [0; 6]));
    frame.resize(60, 0xee);
    let packet = Packet::decode(LinkType::Ethernet, frame);
    assert_eq!((packet.payload(), packet.stop()), (&b""[..], None));
}

#[test]
fn a_udp_datagram_may_be_shorter_than_its_ip_packet() {
    let mut packet = frames::udp(1, 2, b"abcdef");
    packet[25] = 8 + 4;
    let packet = raw(packet);
    assert_eq!((packet.payload(), packet.stop()), (&b"abcd"[..], None));
}

#[test]
fn the_first_fragment_carries_less_than_its_udp_length() {
    let mut segment = frames::udp(1, 2, b"abcdefgh")[20..].to_vec();
    segment[5] = 99;
    let more = |header: &mut etherparse::Ipv4Header| header.more_fragments = true;
    let packet = raw(frames::ipv4_with(
        17,
        frames::POD_A,
        frames::POD_B,
        &segment,
        more,
    ));
    assert_eq!((packet.payload(), packet.stop()), (&b"abcdefgh"[..], None));
    assert_eq!(
        packet.to_string(),
        "IP 192.168.1.12.1 > 192.168.2.6.2: UDP, length 91"
    );
}

#[test]
fn arp_and_vlan_and_echo() {
    let arp = Packet::decode(
        LinkType::Ethernet,
        frames::ethernet(0x0806, &frames::arp(2, frames::MAC_B)),
    );
    assert_eq!(
        arp.arp(),
        Some(&Arp {
            operation: 2,
            sender_mac: frames::MAC_A,
            sender: frames::POD_A.into(),
            target_mac: frames::MAC_B,
            target: frames::POD_B.into(),
        })
    );
    let tagged = [
        &[0, 5, 8, 0][..],
        &frames::icmp(8, 0, [0, 7, 0, 9], b"ping"),
    ]
    .concat();
    let ping = Packet::decode(LinkType::Ethernet, frames::ethernet(0x8100, &tagged));
    assert_eq!(
        ping.layers()[1].header,
        Header::Vlan(Vlan {
            id: 5,
            ether_type: 0x0800
        })
    );
    assert_eq!(
        ping.icmp().unwrap().message,
        IcmpMessage::EchoRequest { id: 7, sequence: 9 }
    );
    assert_eq!(ping.payload(), b"ping");
}

#[test]
fn an_icmp_error_carries_mtu_and_the_packet_it_quotes() {
    let mut quoted = frames::syn();
    quoted.truncate(28);
    let packet = raw(frames::icmp(3, 4, [0, 0, 0x05, 0xc8], &quoted));
    assert_eq!(
        packet.icmp().unwrap().message,
        IcmpMessage::FragmentationNeeded { mtu: 1480 }
    );
    let quoted = packet.quoted().unwrap();
    assert_eq!(
        quoted.inner_ipv4().unwrap().destination,
        Ipv4Addr::from(frames::POD_B)
    );
    let cut = Stop::HeaderCut {
        header: Protocol::Tcp,
        needed: 20,
        present: 8,
    };
    assert_eq!(quoted.stop(), Some(&cut));
    assert_eq!(raw(frames::icmp(8, 0, [0; 4], b"")).quoted(), None);
}

#[test]
fn fragments_stop_at_the_ip_header() {
    let offset = |header: &mut etherparse::Ipv4Header| {
        header.fragment_offset = 185.try_into().unwrap();
    };
    let packet = raw(frames::ipv4_with(
        17,
        frames::POD_A,
        frames::POD_B,
        &[0; 32],
        offset,
    ));
    assert_eq!(packet.stop(), Some(&Stop::LaterFragment));
    assert_eq!(packet.inner_ipv4().unwrap().fragment_offset, 1480);
    assert_eq!(packet.transport(), None);
}

#[test]
fn what_is_not_decoded_is_named() {
    let gre = raw(frames::ipv4(47, frames::POD_A, frames::POD_B, b"gre"));
    assert_eq!(
        (gre.stop(), gre.payload()),
        (Some(&Stop::UnknownProtocol(47)), &b"gre"[..])
    );
    let ipv6 = Packet::decode(LinkType::Ethernet, frames::ethernet(0x86dd, &[0x60; 40]));
    assert_eq!(ipv6.stop(), Some(&Stop::UnknownEtherType(0x86dd)));
}

#[test]
fn tcp_options_that_lie_do_not_hide_the_rest() {
    let options = |bytes: &[u8]| {
        raw(frames::tcp(2, 1, 0, bytes, b""))
            .tcp()
            .unwrap()
            .options
            .clone()
    };
    let unknown = TcpOption::Other {
        kind: 253,
        data: vec![1, 2],
    };
    assert_eq!(options(&[253, 4, 1, 2]), [unknown]);
    assert_eq!(
        options(&[2, 3, 9, 1]),
        [
            TcpOption::Other {
                kind: 2,
                data: vec![9]
            },
            TcpOption::Nop
        ]
    );
    assert_eq!(
        options(&[1, 2, 0, 1]),
        [TcpOption::Nop, TcpOption::Malformed]
    );
    assert_eq!(
        options(&[1, 2, 9, 1]),
        [TcpOption::Nop, TcpOption::Malformed]
    );
    assert_eq!(options(&[0, 2, 4, 1]), [TcpOption::EndOfList]);
    let sack = [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!(options(&sack)[2], TcpOption::Sack(vec![(1, 2)]));
}

#[test]
fn lengths_that_contradict_each_other_are_named() {
    let stop = |packet: Vec<u8>| *raw(packet).stop().unwrap();
    let with = |at: usize, byte: u8| {
        let mut packet = frames::udp(1, 2, b"abcd");
        packet[at] = byte;
        packet
    };
    let ip = |reason| Stop::Malformed {
        header: Protocol::Ipv4,
        reason,
    };
    assert_eq!(stop(with(0, 0x55)), ip(Malformation::Version(5)));
    assert_eq!(stop(with(0, 0x44)), ip(Malformation::HeaderLength(16)));
    assert_eq!(stop(with(3, 19)), ip(Malformation::Length(19)));
    let mut short = frames::tcp(16, 1, 1, b"", b"abcd");
    short.pop();
    assert_eq!(
        stop(short),
        Stop::PayloadCut {
            declared: 4,
            present: 3
        }
    );
    let udp = |reason| Stop::Malformed {
        header: Protocol::Udp,
        reason,
    };
    assert_eq!(stop(with(25, 7)), udp(Malformation::Length(7)));
    assert_eq!(stop(with(25, 13)), udp(Malformation::Length(13)));
    let mut tcp = frames::tcp(16, 1, 1, b"", b"");
    tcp[32] = 0xf0;
    let too_long = Malformation::HeaderLength(60);
    assert_eq!(
        stop(tcp.clone()),
        Stop::Malformed {
            header: Protocol::Tcp,
            reason: too_long
        }
    );
    assert_eq!(raw(tcp).tcp().unwrap().source_port, 46282);
}
