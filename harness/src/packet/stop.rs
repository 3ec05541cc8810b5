//! Why the decoder went no further into a packet.

use std::fmt;

/// A header that the decoder knows; its name is the one `tcpdump` prints for a cut header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Ethernet II.
    Ethernet,
    /// IEEE 802.1Q tag.
    Vlan,
    /// ARP for IPv4 over Ethernet.
    Arp,
    /// IPv4.
    Ipv4,
    /// ICMP for IPv4.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Ethernet => "ether",
            Protocol::Vlan => "vlan",
            Protocol::Arp => "arp",
            Protocol::Ipv4 => "ip",
            Protocol::Icmp => "icmp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// What is wrong with a header. Lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformation {
    /// The version of an IP header that should be 4.
    Version(u8),
    /// A header length below the protocol's minimum, or beyond the end of its packet.
    HeaderLength(usize),
    /// A packet length that is shorter than its header, or longer than what carries it.
    Length(usize),
    /// ARP for other addresses than IPv4 over Ethernet.
    AddressKind,
}

/// Why decoding stopped. The headers before this point are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The packet ends inside a header.
    HeaderCut {
        /// The header that is not complete.
        header: Protocol,
        /// Bytes that the header has.
        needed: usize,
        /// Bytes of it that are there.
        present: usize,
    },
    /// A header contradicts itself or what is around it.
    Malformed {
        /// The header at fault.
        header: Protocol,
        /// What is wrong with it.
        reason: Malformation,
    },
    /// All headers are there, the payload is shorter than they declare.
    PayloadCut {
        /// Bytes that the headers declare.
        declared: usize,
        /// Bytes that are there.
        present: usize,
    },
    /// A fragment that is not the first: the transport header travelled in another packet.
    LaterFragment,
    /// An Ethernet type that the decoder does not read, IPv6 for one.
    UnknownEtherType(u16),
    /// An IP protocol that the decoder does not read.
    UnknownProtocol(u8),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::HeaderCut {
                header,
                needed,
                present,
            } => {
                write!(f, "{header} header cut: {present} of {needed} bytes")
            }
            Stop::Malformed { header, reason } => match reason {
                Malformation::Version(version) => write!(f, "{header} version {version}"),
                Malformation::HeaderLength(n) => write!(f, "{header} header length {n} is wrong"),
                Malformation::Length(n) => write!(f, "{header} length {n} is wrong"),
                Malformation::AddressKind => write!(f, "{header} for unknown addresses"),
            },
            Stop::PayloadCut { declared, present } => {
                write!(f, "payload cut: {present} of {declared} bytes")
            }
            Stop::LaterFragment => f.write_str("not the first fragment"),
            Stop::UnknownEtherType(kind) => write!(f, "ether type {kind:#06x} is not decoded"),
            Stop::UnknownProtocol(number) => write!(f, "IP protocol {number} is not decoded"),
        }
    }
}
