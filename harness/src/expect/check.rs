//! One thing that is asked of one field.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::Ipv4Addr;

use super::who::Addresses;
use crate::capture::Captured;
use crate::packet::{Arp, Icmp, IcmpMessage, Ipv4, Tcp, TcpFlags, TcpOption, Transport};

/// A field of a header, or of the packet as a whole. Its name is what a report calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Source,
    Destination,
    Protocol,
    Ttl,
    Tos,
    Dscp,
    Ecn,
    DontFragment,
    MoreFragments,
    FragmentOffset,
    Length,
    Identification,
    HeaderChecksum,
    SourcePort,
    DestinationPort,
    Flags,
    Sequence,
    Acknowledgment,
    Window,
    MaximumSegment,
    IcmpType,
    IcmpCode,
    IcmpId,
    IcmpSequence,
    IcmpMtu,
    ArpOperation,
    ArpSender,
    ArpTarget,
    Payload,
    PayloadLength,
    Direction,
}

/// What a field of a packet has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Address(Ipv4Addr),
    Number(u64),
    Flags(TcpFlags),
    Bytes(&'a [u8]),
    Word(Cow<'static, str>),
}

/// What a field shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Is(Value<'static>),
    In(Addresses),
    AtLeast(u64),
    AtMost(u64),
    /// All of these flags, and any others.
    Has(TcpFlags),
    Begins(Vec<u8>),
    Contains(Vec<u8>),
    IsBytes(Vec<u8>),
}

/// One thing that is asked of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) field: Field,
    pub(super) test: Test,
}

impl Check {
    pub(super) fn number(field: Field, number: impl Into<u64>) -> Self {
        let test = Test::Is(Value::Number(number.into()));
        Self { field, test }
    }

    pub(super) fn word(field: Field, word: &'static str) -> Self {
        let test = Test::Is(Value::Word(word.into()));
        Self { field, test }
    }
}

impl Test {
    pub(super) fn holds(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Is(wanted), value) => wanted == value,
            (Self::In(addresses), Value::Address(address)) => addresses.contain(*address),
            (Self::AtLeast(least), Value::Number(number)) => number >= least,
            (Self::AtMost(most), Value::Number(number)) => number <= most,
            (Self::Has(wanted), Value::Flags(flags)) => flags.contains(*wanted),
            (Self::Begins(wanted), Value::Bytes(bytes)) => bytes.starts_with(wanted),
            (Self::Contains(wanted), Value::Bytes(bytes)) => {
                wanted.is_empty() || bytes.windows(wanted.len()).any(|part| part == wanted)
            }
            (Self::IsBytes(wanted), Value::Bytes(bytes)) => bytes == wanted,
            _ => false,
        }
    }
}

impl Field {
    pub(super) fn of_ipv4(self, ip: &Ipv4) -> Option<Value<'static>> {
        let number = |number: u64| Some(Value::Number(number));
        match self {
            Self::Source => Some(Value::Address(ip.source)),
            Self::Destination => Some(Value::Address(ip.destination)),
            Self::Protocol => number(ip.protocol.into()),
            Self::Ttl => number(ip.ttl.into()),
            Self::Tos => number((ip.dscp << 2 | ip.ecn).into()),
            Self::Dscp => number(ip.dscp.into()),
            Self::Ecn => Some(Value::Word(
                ["Not-ECT", "ECT(1)", "ECT(0)", "CE"][usize::from(ip.ecn & 3)].into(),
            )),
            Self::DontFragment => yes(ip.dont_fragment),
            Self::MoreFragments => yes(ip.more_fragments),
            Self::FragmentOffset => number(ip.fragment_offset.into()),
            Self::Length => number(ip.total_length.into()),
            Self::Identification => number(ip.identification.into()),
            Self::HeaderChecksum => Some(Value::Word(match ip.checksum_correct {
                true => "right".into(),
                false => "wrong".into(),
            })),
            _ => None,
        }
    }

    pub(super) fn of_transport(self, transport: Transport<'_>) -> Option<Value<'static>> {
        let number = |number: u64| Some(Value::Number(number));
        match (self, transport) {
            (_, Transport::Icmp(icmp)) => self.of_icmp(icmp),
            (Self::SourcePort, Transport::Tcp(tcp)) => number(tcp.source_port.into()),
            (Self::SourcePort, Transport::Udp(udp)) => number(udp.source_port.into()),
            (Self::DestinationPort, Transport::Tcp(tcp)) => number(tcp.destination_port.into()),
            (Self::DestinationPort, Transport::Udp(udp)) => number(udp.destination_port.into()),
            (_, Transport::Tcp(tcp)) => self.of_tcp(tcp),
            _ => None,
        }
    }

    fn of_tcp(self, tcp: &Tcp) -> Option<Value<'static>> {
        match self {
            Self::Flags => Some(Value::Flags(tcp.flags)),
            Self::Sequence => Some(Value::Number(tcp.sequence.into())),
            Self::Acknowledgment => Some(Value::Number(tcp.acknowledgment.into())),
            Self::Window => Some(Value::Number(tcp.window.into())),
            Self::MaximumSegment => tcp.options.iter().find_map(|option| match option {
                TcpOption::Mss(size) => Some(Value::Number((*size).into())),
                _ => None,
            }),
            _ => None,
        }
    }

    fn of_icmp(self, icmp: &Icmp) -> Option<Value<'static>> {
        let (kind, code): (Cow<'static, str>, u8) = match &icmp.message {
            IcmpMessage::EchoRequest { .. } => ("echo request".into(), 0),
            IcmpMessage::EchoReply { .. } => ("echo reply".into(), 0),
            IcmpMessage::Unreachable { code } => ("unreachable".into(), *code),
            IcmpMessage::FragmentationNeeded { .. } => ("fragmentation needed".into(), 4),
            IcmpMessage::Redirect { code, .. } => ("redirect".into(), *code),
            IcmpMessage::TimeExceeded { code } => ("time exceeded".into(), *code),
            IcmpMessage::ParameterProblem { code, .. } => ("parameter problem".into(), *code),
            IcmpMessage::Other { kind, code, .. } => (format!("type {kind}").into(), *code),
        };
        match (self, &icmp.message) {
            (Self::IcmpType, _) => Some(Value::Word(kind)),
            (Self::IcmpCode, _) => Some(Value::Number(code.into())),
            (
                Self::IcmpId,
                IcmpMessage::EchoRequest { id, .. } | IcmpMessage::EchoReply { id, .. },
            ) => Some(Value::Number((*id).into())),
            (
                Self::IcmpSequence,
                IcmpMessage::EchoRequest { sequence, .. } | IcmpMessage::EchoReply { sequence, .. },
            ) => Some(Value::Number((*sequence).into())),
            (Self::IcmpMtu, IcmpMessage::FragmentationNeeded { mtu }) => {
                Some(Value::Number((*mtu).into()))
            }
            _ => None,
        }
    }

    pub(super) fn of_arp(self, arp: &Arp) -> Option<Value<'static>> {
        match self {
            Self::ArpOperation => Some(Value::Word(match arp.operation {
                1 => "request".into(),
                2 => "reply".into(),
                other => format!("operation {other}").into(),
            })),
            Self::ArpSender => Some(Value::Address(arp.sender)),
            Self::ArpTarget => Some(Value::Address(arp.target)),
            _ => None,
        }
    }

    pub(super) fn of_whole(self, captured: &Captured) -> Option<Value<'_>> {
        match self {
            Self::Payload => Some(Value::Bytes(captured.packet.payload())),
            Self::PayloadLength => Some(Value::Number(captured.packet.payload_length() as u64)),
            Self::Direction => Some(Value::Word(captured.direction.to_string().into())),
            _ => None,
        }
    }

    /// Told in the text of a pattern by the ends of the packet.
    pub(super) fn is_end(self) -> bool {
        matches!(
            self,
            Self::Source | Self::Destination | Self::SourcePort | Self::DestinationPort
        )
    }
}

fn yes(is: bool) -> Option<Value<'static>> {
    Some(Value::Word(if is { "set" } else { "not set" }.into()))
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Protocol => "protocol",
            Self::Ttl => "ttl",
            Self::Tos => "tos",
            Self::Dscp => "dscp",
            Self::Ecn => "ecn",
            Self::DontFragment => "df",
            Self::MoreFragments => "mf",
            Self::FragmentOffset => "fragment offset",
            Self::Length => "length",
            Self::Identification => "id",
            Self::HeaderChecksum => "checksum",
            Self::SourcePort => "source port",
            Self::DestinationPort => "destination port",
            Self::Flags => "flags",
            Self::Sequence => "seq",
            Self::Acknowledgment => "ack",
            Self::Window => "window",
            Self::MaximumSegment => "mss",
            Self::IcmpType => "type",
            Self::IcmpCode => "code",
            Self::IcmpId => "id",
            Self::IcmpSequence => "seq",
            Self::IcmpMtu => "mtu",
            Self::ArpOperation => "operation",
            Self::ArpSender => "sender",
            Self::ArpTarget => "target",
            Self::Payload => "payload",
            Self::PayloadLength => "payload length",
            Self::Direction => "direction",
        })
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flags(flags) => write!(f, "[{flags}]"),
            Self::Bytes(bytes) => text(f, bytes),
            Self::Word(word) => f.write_str(word),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(value) => write!(f, "{value}"),
            Self::In(Addresses::OneOf(all)) => {
                for (index, one) in all.iter().enumerate() {
                    let between = if index == 0 { "" } else { " or " };
                    write!(f, "{between}{one}")?;
                }
                Ok(())
            }
            Self::In(addresses) => write!(f, "{addresses}"),
            Self::AtLeast(number) => write!(f, "at least {number}"),
            Self::AtMost(number) => write!(f, "at most {number}"),
            Self::Has(flags) => write!(f, "[{flags}] and any others"),
            Self::Begins(bytes) => {
                f.write_str("begins ")?;
                text(f, bytes)
            }
            Self::Contains(bytes) => {
                f.write_str("contains ")?;
                text(f, bytes)
            }
            Self::IsBytes(bytes) => text(f, bytes),
        }
    }
}

/// Bytes of a payload that a report shows.
const SHOWN: usize = 32;

/// Bytes as a text in quotes, what cannot be printed escaped.
fn text(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    f.write_char('"')?;
    write!(f, "{}", shown.escape_ascii())?;
    f.write_char('"')?;
    match bytes.len() - shown.len() {
        0 => Ok(()),
        more => write!(f, " and {more} bytes"),
    }
}
