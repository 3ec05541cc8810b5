//! The typed headers. Numbers are in host byte order, lengths and offsets in bytes.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::BitOr;

use super::TcpOption;

/// A decoded header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// Ethernet II.
    Ethernet(Ethernet),
    /// IEEE 802.1Q tag.
    Vlan(Vlan),
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// IPv4.
    Ipv4(Ipv4),
    /// ICMP for IPv4.
    Icmp(Icmp),
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
}

/// Ethernet II header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Sender's MAC address.
    pub source: [u8; 6],
    /// Receiver's MAC address.
    pub destination: [u8; 6],
    /// What follows: 0x0800 is IPv4, 0x0806 ARP.
    pub ether_type: u16,
}

/// IEEE 802.1Q tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// VLAN number, 0 to 4095.
    pub id: u16,
    /// What follows, as in [`Ethernet::ether_type`].
    pub ether_type: u16,
}

/// ARP message for IPv4 over Ethernet, RFC 826.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 is a request, 2 a reply.
    pub operation: u16,
    /// MAC address of the sender.
    pub sender_mac: [u8; 6],
    /// IPv4 address of the sender.
    pub sender: Ipv4Addr,
    /// MAC address of the target; zero in a broadcast request.
    pub target_mac: [u8; 6],
    /// IPv4 address that is asked for, or answered to.
    pub target: Ipv4Addr,
}

/// IPv4 header, RFC 791.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// What follows; see [`super::ip_protocol`].
    pub protocol: u8,
    /// Hops left.
    pub ttl: u8,
    /// Differentiated services code point, 6 bits.
    pub dscp: u8,
    /// Explicit congestion notification, 2 bits.
    pub ecn: u8,
    /// Identification, shared by the fragments of one packet.
    pub identification: u16,
    /// DF: routers must not fragment.
    pub dont_fragment: bool,
    /// MF: another fragment follows.
    pub more_fragments: bool,
    /// Where this fragment's payload belongs in the whole packet's, in bytes.
    pub fragment_offset: u16,
    /// Length of header and payload.
    pub total_length: u16,
    /// The options, padding included; empty nearly always.
    pub options: Vec<u8>,
    /// Header checksum as it was on the wire.
    pub checksum: u16,
    /// True when the header checksum is right.
    pub checksum_correct: bool,
}

impl Ipv4 {
    /// True when the packet goes from `a` to `b` or from `b` to `a`.
    #[must_use]
    pub fn is_between(&self, a: Ipv4Addr, b: Ipv4Addr) -> bool {
        (self.source, self.destination) == (a, b) || (self.source, self.destination) == (b, a)
    }

    /// Length of this header, options included.
    #[must_use]
    pub fn header_length(&self) -> usize {
        20 + self.options.len()
    }

    /// True for every fragment of a fragmented packet.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

/// ICMP message, RFC 792.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// What it says.
    pub message: IcmpMessage,
    /// Checksum as it was on the wire.
    pub checksum: u16,
}

/// The meaning of an ICMP message. The packet that an error quotes is [`super::Packet::quoted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IcmpMessage {
    /// Answer to an echo request.
    EchoReply {
        /// Chosen by the sender, tells its pings apart.
        id: u16,
        /// Number of the ping.
        sequence: u16,
    },
    /// Ping.
    EchoRequest {
        /// Chosen by the sender, tells its pings apart.
        id: u16,
        /// Number of the ping.
        sequence: u16,
    },
    /// Destination unreachable for another reason than size.
    Unreachable {
        /// 0 network, 1 host, 2 protocol, 3 port, 13 filtered; see RFC 792 and RFC 1812.
        code: u8,
    },
    /// Destination unreachable, fragmentation needed and DF set (code 4), RFC 1191.
    FragmentationNeeded {
        /// MTU of the next hop; 0 from routers that predate RFC 1191.
        mtu: u16,
    },
    /// Redirect to a better first hop.
    Redirect {
        /// 0 for a network, 1 for a host.
        code: u8,
        /// The better gateway.
        gateway: Ipv4Addr,
    },
    /// Time exceeded.
    TimeExceeded {
        /// 0 TTL ran out on the way, 1 fragments did not arrive in time.
        code: u8,
    },
    /// Header problem.
    ParameterProblem {
        /// 0 when `pointer` is meaningful.
        code: u8,
        /// Offset of the octet at fault.
        pointer: u8,
    },
    /// Any other message.
    Other {
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
        /// The four bytes behind the checksum.
        rest: [u8; 4],
    },
}

impl IcmpMessage {
    /// True for the messages that quote the packet which caused them.
    #[must_use]
    pub fn is_error(&self) -> bool {
        match self {
            IcmpMessage::Unreachable { .. }
            | IcmpMessage::FragmentationNeeded { .. }
            | IcmpMessage::Redirect { .. }
            | IcmpMessage::TimeExceeded { .. }
            | IcmpMessage::ParameterProblem { .. } => true,
            IcmpMessage::EchoReply { .. }
            | IcmpMessage::EchoRequest { .. }
            | IcmpMessage::Other { .. } => false,
        }
    }
}

/// TCP header, RFC 9293.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number of the first payload byte (of the SYN, when set).
    pub sequence: u32,
    /// Next sequence number expected; meaningful with [`TcpFlags::ACK`].
    pub acknowledgment: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Receive window, not scaled.
    pub window: u16,
    /// Urgent pointer; meaningful with [`TcpFlags::URG`].
    pub urgent: u16,
    /// Checksum as it was on the wire.
    pub checksum: u16,
    /// The options in their order, padding included.
    pub options: Vec<TcpOption>,
}

/// UDP header, RFC 768.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Length of header and payload.
    pub length: u16,
    /// Checksum as it was on the wire; 0 when the sender made none.
    pub checksum: u16,
}

/// A set of TCP control bits. Prints as `tcpdump` does: `S.` is SYN and ACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No bit.
    pub const NONE: TcpFlags = TcpFlags(0);
    /// The sender is done.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// The connection opens.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// The connection is aborted.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Deliver without waiting for more.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgment number counts.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer counts.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo.
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced.
    pub const CWR: TcpFlags = TcpFlags(0x80);

    /// In the order in which `tcpdump` prints them.
    const LETTERS: [(TcpFlags, char); 8] = [
        (TcpFlags::FIN, 'F'),
        (TcpFlags::SYN, 'S'),
        (TcpFlags::RST, 'R'),
        (TcpFlags::PSH, 'P'),
        (TcpFlags::ACK, '.'),
        (TcpFlags::URG, 'U'),
        (TcpFlags::ECE, 'E'),
        (TcpFlags::CWR, 'W'),
    ];

    /// The bits as in the fourteenth byte of the header.
    #[must_use]
    pub fn from_bits(bits: u8) -> TcpFlags {
        TcpFlags(bits)
    }

    /// The bits as in the fourteenth byte of the header.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// True when every bit of `other` is set.
    #[must_use]
    pub fn contains(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when at least one bit of `other` is set.
    #[must_use]
    pub fn intersects(self, other: TcpFlags) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;

    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == TcpFlags::NONE {
            return f.write_str("none");
        }
        TcpFlags::LETTERS
            .iter()
            .filter(|(flag, _)| self.contains(*flag))
            .try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}
