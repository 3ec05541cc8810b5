//! The IPv4 header (RFC 791).

use std::net::Ipv4Addr;

use super::checksum::Sum;

/// Length without options in bytes.
pub(crate) const HEADER: usize = 20;
/// The longest with options.
pub(crate) const LONGEST_HEADER: usize = 60;
/// IP in IP (RFC 2003).
pub(crate) const IPIP: u8 = 4;
/// Whose checksum is another one than everybody's (RFC 9260).
pub(crate) const SCTP: u8 = 132;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_OR_OFFSET: u16 = 0x3fff;

/// The fields of a header whose lengths fit the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv4 {
    /// Length of the header with options in bytes.
    pub header_len: usize,
    /// Length of the packet in bytes; at least that of the header.
    pub total_len: usize,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// The DF bit.
    pub dont_fragment: bool,
    /// It is a part of a packet, the first included.
    pub fragment: bool,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of what follows.
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

impl Ipv4 {
    /// Reads the header at the start of `bytes`. `None` when it is none, or when the packet is
    /// longer than `bytes`; it may be shorter (Ethernet pads). The checksum is not looked at.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let address =
            |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        let header_len = usize::from(header[0] & 0xf) * 4;
        let total_len = usize::from(word(2));
        if header[0] >> 4 != 4
            || header_len < HEADER
            || total_len < header_len
            || total_len > bytes.len()
        {
            return None;
        }
        Some(Self {
            header_len,
            total_len,
            tos: header[1],
            id: word(4),
            dont_fragment: word(6) & DONT_FRAGMENT != 0,
            fragment: word(6) & MORE_OR_OFFSET != 0,
            ttl: header[8],
            protocol: header[9],
            source: address(12),
            destination: address(16),
        })
    }
}

/// Writes length and identification into a header, and its checksum. `header` is the whole
/// header with options.
pub(crate) fn rewrite(header: &mut [u8], total_len: u16, id: u16) {
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    set_checksum(header);
}

/// Writes the checksum of a whole header.
pub(crate) fn set_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = Sum::default().bytes(header).checksum();
    header[10..12].copy_from_slice(&checksum);
}

/// The outer header around an inner packet of `inner_len` bytes, as the kernel's ipip device
/// makes it: ttl and DF from inside (`ttl inherit`, `nopmtudisc`), DSCP 0.
///
/// Identification and checksum are left 0: a raw socket writes the checksum, and an
/// identification where fragments are allowed (raw(7)).
pub(crate) fn outer(
    inner: &Ipv4,
    inner_len: usize,
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = 0x45;
    header[1] = super::ecn::outer(inner.tos);
    let length = u16::try_from(HEADER + inner_len).unwrap_or(u16::MAX);
    header[2..4].copy_from_slice(&length.to_be_bytes());
    let flags = if inner.dont_fragment {
        DONT_FRAGMENT
    } else {
        0
    };
    header[6..8].copy_from_slice(&flags.to_be_bytes());
    header[8] = inner.ttl;
    header[9] = IPIP;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    header
}
