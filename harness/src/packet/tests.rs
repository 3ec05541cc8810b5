//! Tests of the decoder. The frames come from `tests/frames`, built header by header.

#[path = "../../tests/frames/mod.rs"]
pub(crate) mod frames;

mod checksum;
mod decode;
mod hostile;
mod tcpdump;

use super::{LinkType, Packet};

/// Decodes an IPv4 packet in an Ethernet frame.
fn ethernet(packet: &[u8]) -> Packet {
    Packet::decode(LinkType::Ethernet, frames::ethernet(0x0800, packet))
}

/// Decodes an IPv4 packet without link header.
fn raw(packet: Vec<u8>) -> Packet {
    Packet::decode(LinkType::Ip, packet)
}
