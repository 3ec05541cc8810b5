//! The real tcpdump reads our capture files and prints what our decoder prints.
//!
//! Needs tcpdump 4.99 and no privileges.
#![cfg(feature = "netns")]
#![allow(
    clippy::unwrap_used,
    reason = "what fails outside the tests proper fails the test too"
)]

mod frames;

use std::process::Command;
use std::time::{Duration, SystemTime};

use podlab::capture::{Captured, Direction, Recording, save_pcapng};
use podlab::packet::{ChecksumState, LinkType, Packet, Protocol, Stop};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn recording(device: &str, link_type: LinkType, packets: Vec<Packet>) -> Recording {
    let mut time = SystemTime::UNIX_EPOCH;
    let packets = packets
        .into_iter()
        .map(|packet| {
            time += Duration::from_secs(1);
            Captured {
                time,
                direction: Direction::Incoming,
                device: device.into(),
                original_length: packet.wire_length(),
                checksum: ChecksumState::Complete,
                packet,
            }
        })
        .collect();
    Recording {
        device: device.to_owned(),
        link_type,
        packets,
        dropped: 0,
        forgotten: 0,
        gone: false,
    }
}

/// What `tcpdump -nn -S` says of the recordings, line by line.
fn tcpdump(recordings: &[Recording], stamps: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.pcapng");
    save_pcapng(&file, recordings).unwrap();
    // As root it would change to a user who may not read the file.
    let output = Command::new("tcpdump")
        .args(["-nn", "-S", "-l", "-Z", "root"])
        .args(stamps)
        .arg("-r")
        .arg(&file)
        .output()
        .expect("tcpdump is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Asserts that tcpdump prints exactly our text for every packet.
#[track_caller]
fn assert_same_text(link_type: LinkType, packets: Vec<Packet>) {
    let lines = tcpdump(&[recording("n/d", link_type, packets.clone())], &["-t"]);
    assert_eq!(lines.len(), packets.len(), "one line per packet");
    for (packet, line) in packets.iter().zip(&lines) {
        // Port 8080 is HTTP to tcpdump, whatever is said there.
        let own = line.strip_suffix(": HTTP").unwrap_or(line);
        assert_eq!(packet.to_string(), own, "{:02x?}", packet.bytes().as_ref());
        assert!(packet.matches_tcpdump(line));
    }
}

fn ethernet(packet: Vec<u8>) -> Packet {
    Packet::decode(LinkType::Ethernet, frames::ethernet(0x0800, &packet))
}

/// Everything that tcpdump says something of its own about.
fn corpus() -> Vec<Vec<u8>> {
    let quoted = frames::udp(1, 2000, b"");
    let mut packets = vec![
        frames::syn(),
        frames::ipip(&frames::syn()),
        frames::ipip(&frames::ipip(&frames::syn())),
        frames::ipip(&frames::udp(40000, 40001, b"abc")),
        frames::ipip(&frames::icmp(0, 0, [0, 1, 0, 2], b"pong")),
        frames::tcp(frames::RST, 5, 0, b"", b"why"),
        frames::udp(40000, 40001, b""),
        frames::ipv4(253, frames::POD_A, frames::POD_B, b"abc"),
        frames::icmp(3, 4, [0; 4], &quoted),
        frames::icmp(3, 3, [0; 4], &frames::syn()[..28]),
        frames::icmp(
            3,
            3,
            [0; 4],
            &frames::ipv4(99, frames::POD_A, frames::POD_B, &[0; 8]),
        ),
    ];
    packets.extend((0..18).map(|code| frames::icmp(3, code, [0, 0, 5, 0xc8], &quoted)));
    packets.extend((0..5).map(|code| frames::icmp(5, code, frames::NODE_A, &quoted)));
    packets.extend((0..4).map(|code| frames::icmp(11, code, [0; 4], &quoted)));
    packets.extend((0..4).map(|code| frames::icmp(12, code, [20, 0, 0, 0], &quoted)));
    packets.extend(
        [4, 8, 10, 13, 15, 16, 17, 30, 255].map(|kind| frames::icmp(kind, 0, [1, 2, 3, 4], b"")),
    );
    packets.extend(
        (0..28)
            .step_by(4)
            .map(|cut| frames::icmp(3, 3, [0; 4], &quoted[..cut])),
    );
    packets.extend((0..=255).map(|flags| frames::tcp(flags, 0xffff_fffe, 9, b"", b"abc")));
    let options: [&[u8]; 14] = [
        &[1, 1, 1, 1],
        &[0, 1, 1, 1],
        &[2, 4, 5, 0xb4],
        &[3, 3, 7, 1],
        &[4, 2, 1, 1],
        &[5, 2, 1, 1],
        &[5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 1, 1],
        &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1],
        &[34, 2, 1, 1],
        &[34, 4, 1, 1],
        &[34, 6, 1, 2, 3, 4, 1, 1],
        &[
            19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 1,
        ],
        &[253, 4, 1, 2],
        &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 2, 0],
    ];
    packets.extend(options.map(|options| frames::tcp(0x12, 5, 7, options, b"")));
    let mut long = quoted[20..].to_vec();
    long[5] = 99;
    packets.extend([0, 1].map(|offset| {
        frames::ipv4_with(17, frames::POD_A, frames::POD_B, &long, |header| {
            header.more_fragments = true;
            header.fragment_offset = offset.try_into().unwrap();
        })
    }));
    packets.extend(damaged());
    packets
}

/// Lengths and versions that cannot be.
fn damaged() -> Vec<Vec<u8>> {
    let with = |mut packet: Vec<u8>, at: usize, byte: u8| {
        packet[at] = byte;
        packet
    };
    let udp = frames::udp(40000, 40001, b"abcd");
    let tcp = frames::tcp(16, 5, 7, b"", b"abcd");
    let mut packets = vec![
        with(udp.clone(), 0, 0x55),
        with(udp.clone(), 0, 0x65),
        with(udp.clone(), 0, 0x44),
        with(udp.clone(), 3, 19),
        with(udp.clone(), 3, 0),
        with(udp.clone(), 25, 7),
        with(udp.clone(), 25, 10),
        with(udp.clone(), 25, 99),
        with(tcp.clone(), 32, 0x40),
        with(tcp.clone(), 32, 0xf0),
    ];
    packets.extend((20..32).map(|length| with(udp.clone(), 3, length)));
    packets.extend((20..44).map(|length| with(tcp.clone(), 3, length)));
    let inside: Vec<_> = packets.iter().map(|packet| frames::ipip(packet)).collect();
    packets.extend(inside);
    packets
}

#[test]
fn every_kind_of_packet_has_tcpdump_s_text() {
    assert_same_text(
        LinkType::Ethernet,
        corpus().into_iter().map(ethernet).collect(),
    );
    let raw = |packet| Packet::decode(LinkType::Ip, packet);
    let no_ipv6 = |packet: &Vec<u8>| packet[0] >> 4 != 6;
    assert_same_text(
        LinkType::Ip,
        corpus().into_iter().filter(no_ipv6).map(raw).collect(),
    );
}

#[test]
fn arp_has_tcpdump_s_text() {
    let arp = |operation, mac| frames::ethernet(0x0806, &frames::arp(operation, mac));
    let mut messages: Vec<_> = [1, 2, 3, 4, 8, 9]
        .into_iter()
        .map(|operation| arp(operation, frames::MAC_B))
        .collect();
    messages.push(arp(1, [0; 6]));
    let mut padded = arp(1, [0; 6]);
    padded.resize(60, 0);
    messages.push(padded);
    messages.extend((15..42).map(|length| arp(1, [0; 6])[..length].to_vec()));
    let packets = messages
        .into_iter()
        .map(|frame| Packet::decode(LinkType::Ethernet, frame));
    assert_same_text(LinkType::Ethernet, packets.collect());
}

#[test]
fn a_packet_cut_at_any_length_has_tcpdump_s_text() {
    let whole = [
        frames::ipip(&frames::syn()),
        frames::ipip(&frames::udp(40000, 40001, b"abc")),
        frames::icmp(8, 0, [0, 1, 0, 2], b"ping"),
        frames::tcp(
            0x18,
            5,
            7,
            &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            b"payload",
        ),
        frames::ipv4_with(
            6,
            frames::POD_A,
            frames::POD_B,
            &frames::syn()[20..],
            |header| {
                header.options = etherparse::Ipv4Options::try_from(&[1, 1, 1, 0][..]).unwrap();
            },
        ),
    ];
    let mut packets = Vec::new();
    for frame in whole.map(|packet| frames::ethernet(0x0800, &packet)) {
        for length in 1..frame.len() {
            for wire_length in [length, frame.len()] {
                let bytes = frame[..length].to_vec();
                packets.push(Packet::decode_cut(LinkType::Ethernet, bytes, wire_length));
            }
        }
    }
    packets.retain(|packet| !is_cut_in_icmp(packet));
    let (in_options, exact) = packets.into_iter().partition(is_cut_in_tcp_options);
    assert_same_text(LinkType::Ethernet, exact);
    // The documented exception: the option that is cut.
    assert_same_text_until("options [", in_options);
}

fn assert_same_text_until(end: &str, packets: Vec<Packet>) {
    let tap = recording("n/d", LinkType::Ethernet, packets.clone());
    let lines = tcpdump(&[tap], &["-t"]);
    assert_eq!(lines.len(), packets.len());
    for (packet, line) in packets.iter().zip(&lines) {
        let text = packet.to_string();
        let (own, _) = text.split_once(end).unwrap();
        assert_eq!(line.split_once(end).unwrap().0, own);
    }
}

fn is_cut_in_tcp_options(packet: &Packet) -> bool {
    packet.tcp().is_some() && matches!(packet.stop(), Some(Stop::HeaderCut { .. }))
}

/// tcpdump prints some messages without looking at all eight bytes.
fn is_cut_in_icmp(packet: &Packet) -> bool {
    matches!(
        packet.stop(),
        Some(Stop::HeaderCut {
            header: Protocol::Icmp,
            present: 2..,
            ..
        })
    )
}

/// Random packets of the kinds that a pod network carries.
fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    // No port that tcpdump knows an application for.
    let port = 40000u16..49000;
    let payload = || proptest::collection::vec(any::<u8>(), 0..64);
    let option = prop_oneof![
        Just(vec![1]),
        any::<[u8; 2]>().prop_map(|mss| [vec![2, 4], mss.to_vec()].concat()),
        any::<u8>().prop_map(|shift| vec![3, 3, shift]),
        Just(vec![4, 2]),
        any::<[u8; 8]>().prop_map(|block| [vec![5, 10], block.to_vec()].concat()),
        any::<[u8; 8]>().prop_map(|stamps| [vec![8, 10], stamps.to_vec()].concat()),
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(|data| [
            vec![253, data.len() as u8 + 2],
            data
        ]
        .concat()),
    ];
    let options = proptest::collection::vec(option, 0..4).prop_map(|options| {
        let mut options = options.concat();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 1);
        options
    });
    let tcp = (
        port.clone(),
        port.clone(),
        any::<u8>(),
        any::<u32>(),
        any::<u32>(),
        options,
        payload(),
    )
        .prop_map(
            |(source, destination, flags, sequence, ack, options, payload)| {
                frames::tcp_ports(
                    source,
                    destination,
                    flags,
                    sequence,
                    ack,
                    &options,
                    &payload,
                )
            },
        );
    let udp = (port.clone(), port, payload())
        .prop_map(|(source, destination, payload)| frames::udp(source, destination, &payload));
    let echo = (prop_oneof![Just(0u8), Just(8)], any::<[u8; 4]>(), payload())
        .prop_map(|(kind, rest, payload)| frames::icmp(kind, 0, rest, &payload));
    let plain = prop_oneof![4 => tcp, 1 => udp, 1 => echo];
    (plain, 0..3usize)
        .prop_map(|(packet, depth)| (0..depth).fold(packet, |inner, _| frames::ipip(&inner)))
}

#[test]
fn random_packets_have_tcpdump_s_text() {
    let mut runner = TestRunner::deterministic();
    let packets: Vec<Packet> = (0..3000)
        .map(|_| ethernet(any_packet().new_tree(&mut runner).unwrap().current()))
        .collect();
    assert_same_text(LinkType::Ethernet, packets.clone());

    // A line belongs to its packet and to no other one.
    let lines = tcpdump(
        &[recording("n/d", LinkType::Ethernet, packets.clone())],
        &["-tttt"],
    );
    for (packet, pair) in packets.iter().zip(lines.windows(2)) {
        assert!(packet.matches_tcpdump(&pair[0]), "{packet}\n{}", pair[0]);
        let same_text = pair[1].ends_with(&packet.to_string());
        assert_eq!(
            packet.matches_tcpdump(&pair[1]),
            same_text,
            "{packet}\n{}",
            pair[1]
        );
    }
}

#[test]
fn application_text_behind_the_payload_is_accepted() {
    let packets: Vec<_> = [
        frames::ipip(&frames::tcp(
            0x18,
            5,
            7,
            b"",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        )),
        frames::ipip(&frames::tcp_ports(
            8080,
            46282,
            0x18,
            7,
            9,
            b"",
            b"HTTP/1.0 200 OK\r\n\r\n",
        )),
        frames::tcp_ports(179, 40000, 0x18, 7, 9, b"", b"bgp"),
        frames::tcp_ports(53, 40000, 0x18, 7, 9, b"", b"\0\x0adns over tcp"),
        frames::udp(40000, 123, &[0x23; 48]),
        frames::udp(40000, 53, b"short"),
    ]
    .into_iter()
    .map(ethernet)
    .collect();
    let lines = tcpdump(
        &[recording("n/d", LinkType::Ethernet, packets.clone())],
        &["-tt"],
    );
    assert!(
        lines[0].ends_with("length 27: HTTP: GET / HTTP/1.1"),
        "{}",
        lines[0]
    );
    for (i, packet) in packets.iter().enumerate() {
        for (j, line) in lines.iter().enumerate() {
            assert_eq!(packet.matches_tcpdump(line), i == j, "{packet}\n{line}");
        }
    }
}

#[test]
fn a_file_with_several_taps_of_both_kinds_is_read() {
    let inner = frames::syn();
    let recordings = [
        recording(
            "n/tunl0",
            LinkType::Ip,
            vec![Packet::decode(LinkType::Ip, inner.clone())],
        ),
        recording(
            "n/ens192",
            LinkType::Ethernet,
            vec![ethernet(frames::ipip(&inner))],
        ),
    ];
    let lines = tcpdump(&recordings, &["-t"]);
    let expected: Vec<_> = recordings
        .iter()
        .map(|r| r.packets[0].packet.to_string())
        .collect();
    assert_eq!(lines, expected);
}
