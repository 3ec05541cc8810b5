//! Checksums: are they right, and the form of a packet in which two taps can be compared.
//!
//! Linux hands packets whose transport checksum is still to be computed by the network card
//! (`CHECKSUM_PARTIAL`) to taps as they are: the field holds the sum of the pseudo header only. On
//! veth pairs it stays like that over the whole path, so a wrong-looking checksum is normal there.
//! The tap says so (`TP_STATUS_CSUMNOTREADY`, packet(7)); [`ChecksumState`] carries that word.

use std::net::Ipv4Addr;

use etherparse::checksum::Sum16BitWords;

use super::{Header, Ipv4, Packet, ip_protocol};

/// Offset of the TTL in an IPv4 header.
const TTL: usize = 8;
/// Where the IPv4 header checksum stands.
const HEADER_CHECKSUM: std::ops::Range<usize> = 10..12;

/// What the tap said about the transport checksum of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumState {
    /// The field holds what the wire would carry.
    Complete,
    /// The field holds the sum of the pseudo header; the rest was left to the hardware.
    NotReady,
}

/// Result of verifying a transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumVerdict {
    /// Right.
    Correct,
    /// Wrong.
    Wrong {
        /// What the packet carries.
        found: u16,
        /// What it should carry.
        expected: u16,
    },
    /// Not computed yet, see [`ChecksumState::NotReady`].
    NotReady,
    /// A UDP packet whose sender made none.
    Absent,
    /// The packet was cut, or is a fragment: the bytes that are summed are not all there.
    Unverifiable,
}

impl Packet {
    /// Verifies the checksum of the transport header. `None` without a transport header.
    ///
    /// Whether the IPv4 headers' own checksums are right stands in [`Ipv4::checksum_correct`].
    #[must_use]
    pub fn transport_checksum(&self, state: ChecksumState) -> Option<ChecksumVerdict> {
        let found = match &self.layers.last()?.header {
            Header::Icmp(icmp) => icmp.checksum,
            Header::Tcp(tcp) => tcp.checksum,
            Header::Udp(udp) => udp.checksum,
            _ => return None,
        };
        if state == ChecksumState::NotReady {
            return Some(ChecksumVerdict::NotReady);
        }
        if found == 0 && self.udp().is_some() {
            return Some(ChecksumVerdict::Absent);
        }
        let Some((segment, field)) = self.whole_segment() else {
            return Some(ChecksumVerdict::Unverifiable);
        };
        let expected = expected(self.inner_ipv4()?, segment, field);
        // 0 and 0xffff are the same number in ones' complement arithmetic.
        Some(match found % 0xffff == expected % 0xffff {
            true => ChecksumVerdict::Correct,
            false => ChecksumVerdict::Wrong { found, expected },
        })
    }

    /// The innermost IPv4 packet in the form that is the same at every tap of its path: what
    /// forwarding changes (TTL, IPv4 header checksum) is zero, and a transport checksum that was
    /// left to the hardware is filled in. Everything else is as captured.
    ///
    /// `None` without an IPv4 header, and for a packet that was not captured whole.
    #[must_use]
    pub fn canonical_inner(&self, state: ChecksumState) -> Option<Vec<u8>> {
        let ipv4 = self.inner_ipv4()?;
        let mut bytes = self.inner_bytes()?.to_vec();
        if bytes.len() < usize::from(ipv4.total_length) {
            return None;
        }
        bytes[TTL] = 0;
        bytes[HEADER_CHECKSUM].fill(0);
        if state == ChecksumState::NotReady
            && let Some((segment, field)) = self.whole_segment()
        {
            let checksum = expected(ipv4, segment, field);
            let at = ipv4.header_length() + field;
            bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        Some(bytes)
    }

    /// What the transport checksum covers besides the pseudo header, and the offset of the
    /// checksum in it. `None` when not all of it is there.
    fn whole_segment(&self) -> Option<(&[u8], usize)> {
        let ipv4 = self.inner_ipv4()?;
        let field = match &self.layers.last()?.header {
            Header::Icmp(_) => 2,
            Header::Tcp(_) => 16,
            Header::Udp(_) => 6,
            _ => return None,
        };
        if self.stop.is_some() || ipv4.is_fragment() {
            return None;
        }
        let start = self.layers.last()?.range.start;
        let segment = self.bytes.get(start..self.payload.end)?;
        Some((segment, field))
    }
}

/// The checksum that `segment` should carry at offset `field`.
fn expected(ipv4: &Ipv4, segment: &[u8], field: usize) -> u16 {
    let (before, after) = (&segment[..field], &segment[field + 2..]);
    if ipv4.protocol == ip_protocol::ICMP {
        return sum(&[before, after]);
    }
    let pseudo = pseudo_header(ipv4.source, ipv4.destination, ipv4.protocol, segment.len());
    match sum(&[&pseudo, before, after]) {
        // RFC 768: zero means "none made", so a sum of zero travels as 0xffff.
        0 if ipv4.protocol == ip_protocol::UDP => 0xffff,
        sum => sum,
    }
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> [u8; 12] {
    // A segment is part of an IPv4 packet, so its length fits.
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let ([a, b, c, d], [e, f, g, h]) = (source.octets(), destination.octets());
    [a, b, c, d, e, f, g, h, 0, protocol, high, low]
}

/// Internet checksum, RFC 1071, over parts that (but for the last) have an even length.
///
/// Over a region that includes its own, correct checksum the result is 0.
pub(super) fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts
        .iter()
        .fold(Sum16BitWords::new(), |words, part| words.add_slice(part));
    u16::from_be(words.ones_complement())
}
