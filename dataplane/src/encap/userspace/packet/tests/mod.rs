//! Properties of the packet path, and what is needed to state them: packets made and checked
//! by other code than the one under test.

mod hostile;
mod inward;
mod outward;
mod round_trip;

use std::net::Ipv4Addr;

use super::frame::{ETHERNET, FrameHead};
use super::vnet::{Gso, Vnet};
use crate::mac::Mac;

pub(super) const POD: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
pub(super) const OTHER_POD: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 6);
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 2);
pub(super) const OTHER_NODE: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 3);

/// RFC 1071 by the letter: 16-bit words, big-endian, one at a time, carries added at once.
pub(super) fn slow_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u16 = 0;
    let mut i = 0;
    while i < bytes.len() {
        let low = bytes.get(i + 1).copied().unwrap_or(0);
        let (added, carry) = sum.overflowing_add(u16::from_be_bytes([bytes[i], low]));
        sum = added + u16::from(carry);
        i += 2;
    }
    !sum
}

/// A TCP or UDP packet in the making.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub tos: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub ttl: u8,
    pub transport: Gso,
    pub ports: (u16, u16),
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    /// Multiples of four bytes.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            tos: 0,
            id: 77,
            dont_fragment: true,
            ttl: 63,
            transport: Gso::Tcp,
            ports: (40_000, 8080),
            sequence: 1000,
            acknowledgement: 2000,
            flags: 0x10,
            window: 512,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload: vec![0x55; 100],
        }
    }
}

impl Sample {
    pub(super) fn with_payload(length: usize) -> Self {
        Self {
            payload: (0..length).map(|i| (i * 7 % 251) as u8).collect(),
            ..Self::default()
        }
    }

    pub(super) fn udp(length: usize) -> Self {
        Self {
            transport: Gso::Udp,
            ..Self::with_payload(length)
        }
    }

    pub(super) fn transport_header_len(&self) -> usize {
        match self.transport {
            Gso::Tcp => 20 + self.options.len(),
            Gso::Udp => 8,
        }
    }

    fn segment(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        match self.transport {
            Gso::Tcp => {
                bytes.extend(self.sequence.to_be_bytes());
                bytes.extend(self.acknowledgement.to_be_bytes());
                bytes.push(((20 + self.options.len()) << 2) as u8);
                bytes.push(self.flags);
                bytes.extend(self.window.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend(&self.options);
            }
            Gso::Udp => {
                bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
                bytes.extend([0; 2]);
            }
        }
        bytes.extend(&self.payload);
        bytes
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        let protocol = match self.transport {
            Gso::Tcp => 6,
            Gso::Udp => 17,
        };
        let mut bytes = [POD.octets(), OTHER_POD.octets()].concat();
        bytes.extend([0, protocol]);
        bytes.extend((length as u16).to_be_bytes());
        bytes
    }

    fn packet(&self, checksum: impl FnOnce(&[u8], &[u8]) -> u16) -> Vec<u8> {
        let mut segment = self.segment();
        let sum = checksum(&self.pseudo(segment.len()), &segment);
        let at = match self.transport {
            Gso::Tcp => 16,
            Gso::Udp => 6,
        };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let protocol = self.pseudo(0)[9];
        let flags = if self.dont_fragment { 0x4000 } else { 0 };
        ip_packet(
            self.tos,
            self.id,
            flags,
            self.ttl,
            protocol,
            (POD, OTHER_POD),
            &segment,
        )
    }

    /// As on a wire.
    pub(super) fn finished(&self) -> Vec<u8> {
        self.packet(
            |pseudo, segment| match slow_checksum(&[pseudo, segment].concat()) {
                0 if self.transport == Gso::Udp => 0xffff,
                checksum => checksum,
            },
        )
    }

    /// As a sender leaves it to hardware.
    pub(super) fn partial(&self) -> Vec<u8> {
        self.packet(|pseudo, _| !slow_checksum(pseudo))
    }

    /// The virtio header of a super-packet that is to be cut into `size` bytes of payload.
    pub(super) fn gso(&self, size: u16) -> Vnet {
        let start = ETHERNET + 20;
        let checksum_at = match self.transport {
            Gso::Tcp => 16,
            Gso::Udp => 6,
        };
        Vnet {
            checksum: Some((start as u16, checksum_at)),
            gso: Some((self.transport, size)),
            header_len: (start + self.transport_header_len()) as u16,
            ecn: self.flags & 0x80 != 0 && self.transport == Gso::Tcp,
        }
    }
}

/// An IPv4 packet without options.
pub(super) fn ip_packet(
    tos: u8,
    id: u16,
    flags: u16,
    ttl: u8,
    protocol: u8,
    (source, destination): (Ipv4Addr, Ipv4Addr),
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0x45, tos];
    bytes.extend((20 + payload.len() as u16).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(flags.to_be_bytes());
    bytes.extend([ttl, protocol, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    let checksum = slow_checksum(&bytes);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `packet` inside of IPIP from the other node to this one.
pub(super) fn ipip(packet: &[u8]) -> Vec<u8> {
    ip_packet(0, 0, 0x4000, 63, 4, (OTHER_NODE, NODE), packet)
}

/// A frame as the packet socket gives it.
pub(super) fn frame(vnet: &Vnet, packet: &[u8]) -> Vec<u8> {
    let head = FrameHead::new(vnet, Mac([2; 6]), Mac([4; 6]));
    [head.bytes(), packet].concat()
}

/// Asserts that every checksum of a TCP or UDP packet is finished and right, by the slow way.
pub(super) fn assert_checksums(packet: &[u8]) {
    let ip_len = usize::from(packet[0] & 15) * 4;
    assert_eq!(slow_checksum(&packet[..ip_len]), 0, "IPv4 header");
    let segment = &packet[ip_len..];
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, packet[9]]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    assert_eq!(slow_checksum(&[&pseudo, segment].concat()), 0, "transport");
}
