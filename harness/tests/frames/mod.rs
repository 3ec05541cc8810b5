//! Frames for tests, built header by header. Shared by the unit tests of `podlab::packet` and the
//! integration tests, so that all of them look at the same packets.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    reason = "frames that cannot be built are a fault of the test"
)]

use etherparse::{IpNumber, Ipv4Header, TcpHeader, UdpHeader};

/// MAC addresses of the two ends of every Ethernet frame here.
pub const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// The two nodes and the two pods of the seed's walk.
pub const NODE_A: [u8; 4] = [10, 12, 22, 2];
pub const NODE_B: [u8; 4] = [10, 12, 22, 3];
pub const POD_A: [u8; 4] = [192, 168, 1, 12];
pub const POD_B: [u8; 4] = [192, 168, 2, 6];

/// mss 1400, sackOK, TS val 248040654 ecr 0, nop, wscale 7
pub const SYN_OPTIONS: [u8; 20] = [
    2, 4, 5, 0x78, 4, 2, 8, 10, 0x0e, 0xc8, 0xcc, 0xce, 0, 0, 0, 0, 1, 3, 3, 7,
];

/// TCP flag bits.
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH_ACK: u8 = 0x18;
pub const ACK: u8 = 0x10;

pub fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&MAC_B[..], &MAC_A, &ether_type.to_be_bytes(), payload].concat()
}

/// An IPv4 packet with ttl 64 and DF.
pub fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    ipv4_with(protocol, source, destination, payload, |_| {})
}

/// An IPv4 packet whose header the test changes before its checksum is computed.
pub fn ipv4_with(
    protocol: u8,
    source: [u8; 4],
    destination: [u8; 4],
    payload: &[u8],
    change: impl FnOnce(&mut Ipv4Header),
) -> Vec<u8> {
    let length = payload.len().try_into().unwrap();
    let mut header = Ipv4Header::new(length, 64, IpNumber(protocol), source, destination).unwrap();
    header.dont_fragment = true;
    change(&mut header);
    header.set_payload_len(payload.len()).unwrap();
    let mut packet = Vec::new();
    header.write(&mut packet).unwrap();
    packet.extend_from_slice(payload);
    packet
}

/// From node A to node B, around `inner`.
pub fn ipip(inner: &[u8]) -> Vec<u8> {
    ipv4(4, NODE_A, NODE_B, inner)
}

/// A TCP packet from pod A, port 46282, to pod B, port 8080.
pub fn tcp(flags: u8, sequence: u32, ack: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
    tcp_ports(46282, 8080, flags, sequence, ack, options, payload)
}

pub fn tcp_ports(
    source: u16,
    destination: u16,
    flags: u8,
    sequence: u32,
    ack: u32,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut header = TcpHeader::new(source, destination, sequence, 28000);
    header.acknowledgment_number = ack;
    header.set_options_raw(options).unwrap();
    let mut segment = Vec::new();
    header.write(&mut segment).unwrap();
    segment[13] = flags;
    segment.extend_from_slice(payload);
    let sum = pseudo_sum(6, POD_A, POD_B, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(6, POD_A, POD_B, &segment)
}

/// The SYN of the seed's walk.
pub fn syn() -> Vec<u8> {
    tcp(SYN, 2_194_532_999, 0, &SYN_OPTIONS, b"")
}

/// A UDP packet from pod A to pod B.
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let header = UdpHeader::with_ipv4_checksum(
        source,
        destination,
        &Ipv4Header::new((8 + payload.len()) as u16, 64, IpNumber::UDP, POD_A, POD_B).unwrap(),
        payload,
    )
    .unwrap();
    ipv4(17, POD_A, POD_B, &[&header.to_bytes(), payload].concat())
}

/// An ICMP message from pod A to pod B.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], &rest[..], payload].concat();
    let sum = internet_sum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(1, POD_A, POD_B, &message)
}

/// An ARP message between pod A and pod B.
pub fn arp(operation: u16, target_mac: [u8; 6]) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4];
    [
        &fixed[..],
        &operation.to_be_bytes(),
        &MAC_A,
        &POD_A,
        &target_mac,
        &POD_B,
    ]
    .concat()
}

/// What a transport checksum field should hold, written down anew for the tests: plain RFC 1071.
pub fn pseudo_sum(protocol: u8, source: [u8; 4], destination: [u8; 4], segment: &[u8]) -> u16 {
    let length = (segment.len() as u16).to_be_bytes();
    internet_sum(&[&source, &destination, &[0, protocol], &length, segment])
}

/// The sum of the pseudo header alone, as it stands in the field of a CHECKSUM_PARTIAL packet.
pub fn partial_sum(protocol: u8, source: [u8; 4], destination: [u8; 4], length: usize) -> u16 {
    let length = (length as u16).to_be_bytes();
    !internet_sum(&[&source, &destination, &[0, protocol], &length])
}

fn internet_sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
