//! Patterns, order and messages, over packets that were built by hand.

mod matching;
mod messages;
mod order;
mod unevaluated;

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use super::*;
use crate::capture::Direction;
use crate::packet::tests::frames;
use crate::packet::{ChecksumState, LinkType, Packet};

const NODE_A: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 2);
const NODE_B: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 3);
const POD_A: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const POD_B: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 6);

/// A packet of a device without link header, `millis` after the epoch.
fn captured(millis: u64, packet: Vec<u8>) -> Captured {
    let packet = Packet::decode(LinkType::Ip, packet);
    Captured {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(millis),
        direction: Direction::Outgoing,
        device: "n1/ens192".into(),
        original_length: packet.wire_length(),
        checksum: ChecksumState::Complete,
        packet,
    }
}

fn one(packet: Vec<u8>) -> Captured {
    captured(0, packet)
}

fn recording(packets: impl IntoIterator<Item = Vec<u8>>) -> Recording {
    let packets = (0..).zip(packets);
    Recording {
        device: "n1/ens192".to_owned(),
        link_type: LinkType::Ip,
        packets: packets.map(|(at, packet)| captured(at, packet)).collect(),
        dropped: 0,
        forgotten: 0,
        gone: false,
    }
}

fn from_b(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = frames::tcp_ports(8080, 46282, flags, 1, 2, &[], payload);
    packet[12..16].copy_from_slice(&frames::POD_B);
    packet[16..20].copy_from_slice(&frames::POD_A);
    packet
}

/// SYN, SYN-ACK, ACK, GET as they pass the tunnel.
fn handshake() -> Recording {
    recording([
        frames::syn(),
        from_b(0x12, b""),
        frames::tcp(frames::ACK, 1, 1, &[], b""),
        frames::tcp(frames::PSH_ACK, 1, 1, &[], b"GET / HTTP/1.1\r\n"),
    ])
}
