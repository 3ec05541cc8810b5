//! TCP and UDP, as far as checksums and segments concern them.

use super::checksum::Sum;
use super::ipv4::Ipv4;

/// A protocol whose checksum covers a pseudo-header (RFC 9293, 3.1; RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// The transport of a whole packet; fragments have none.
    pub(crate) fn of(ip: &Ipv4) -> Option<Self> {
        match ip.protocol {
            _ if ip.fragment => None,
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    fn protocol(self) -> u16 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Where the checksum stands in the header.
    pub(crate) fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }

    /// Length of the header at the start of `segment`, if it is all there.
    pub(crate) fn header_len(self, segment: &[u8]) -> Option<usize> {
        let length = match self {
            Self::Tcp => usize::from(segment.get(12)? >> 4) * 4,
            Self::Udp => 8,
        };
        let shortest = match self {
            Self::Tcp => 20,
            Self::Udp => 8,
        };
        (shortest..=segment.len())
            .contains(&length)
            .then_some(length)
    }

    /// The sum of the pseudo-header, for a segment of `length` bytes.
    pub(crate) fn pseudo(self, ip: &Ipv4, length: usize) -> Sum {
        Sum::default()
            .bytes(&ip.source.octets())
            .bytes(&ip.destination.octets())
            .word(self.protocol())
            .word(u16::try_from(length).unwrap_or(u16::MAX))
    }

    /// Whether a whole segment carries the right checksum, or UDP's "none". `segment` starts at
    /// the transport's header and ends with the packet.
    pub(crate) fn is_valid(self, ip: &Ipv4, segment: &[u8]) -> bool {
        let none = self == Self::Udp && segment.get(6..8) == Some(&[0, 0]);
        none || self.pseudo(ip, segment.len()).bytes(segment).checksum() == [0, 0]
    }

    /// A finished checksum as it stands on the wire: UDP's 0 would mean "none".
    pub(crate) fn on_the_wire(self, checksum: [u8; 2]) -> [u8; 2] {
        match (self, checksum) {
            (Self::Udp, [0, 0]) => [0xff, 0xff],
            (_, checksum) => checksum,
        }
    }
}

/// The fields of a TCP header (RFC 9293, 3.1) by their places.
pub(crate) mod tcp {
    pub(crate) const SEQUENCE: std::ops::Range<usize> = 4..8;
    pub(crate) const ACKNOWLEDGEMENT: std::ops::Range<usize> = 8..12;
    pub(crate) const FLAGS: usize = 13;
    pub(crate) const WINDOW: std::ops::Range<usize> = 14..16;

    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const CWR: u8 = 0x80;
}
