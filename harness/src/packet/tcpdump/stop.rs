//! Packets that could not be decoded to their end, as tcpdump prints them.

use std::fmt;

use super::super::{Ipv4, LinkType, Malformation, Packet, Protocol, Stop};
use super::{write_ip, write_ports};

impl Packet {
    pub(super) fn write_stop(
        &self,
        f: &mut fmt::Formatter<'_>,
        around: Option<&Ipv4>,
        stop: Stop,
    ) -> fmt::Result {
        let rest = self.payload();
        let length = self.payload_length();
        match (stop, around) {
            (Stop::LaterFragment, Some(ip)) => {
                write!(
                    f,
                    "{} > {}: ip-proto-{}",
                    ip.source, ip.destination, ip.protocol
                )
            }
            (Stop::UnknownProtocol(number), Some(ip)) => {
                write!(
                    f,
                    "{} > {}:  ip-proto-{number} {length}",
                    ip.source, ip.destination
                )
            }
            (
                Stop::HeaderCut {
                    header: header @ (Protocol::Tcp | Protocol::Udp),
                    ..
                },
                Some(ip),
            ) => match rest {
                &[a, b, c, d, ..] => {
                    let (source, destination) =
                        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    write_ports(f, around, source, destination)?;
                    match header {
                        Protocol::Udp if length < 8 => write!(f, "truncated-udp {length}"),
                        _ => write!(f, " [|{header}]"),
                    }
                }
                _ => {
                    write!(f, "{} > {}: ", ip.source, ip.destination)?;
                    let space = if header == Protocol::Udp { " " } else { "" };
                    write!(f, "{space}[|{header}]")
                }
            },
            (
                Stop::Malformed {
                    header: Protocol::Tcp,
                    reason: Malformation::HeaderLength(hlen),
                },
                _,
            ) => {
                if let &[a, b, c, d, ..] = rest {
                    let (source, destination) =
                        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    write_ports(f, around, source, destination)?;
                }
                let data = length.saturating_sub(hlen);
                write!(f, " tcp {data} [bad hdr length {hlen} - too short, < 20]")
            }
            (stop, around) => {
                if let Some(ip) = around {
                    write!(f, "{} > {}: ", ip.source, ip.destination)?;
                }
                self.write_ip_stop(f, stop, around.is_none())
            }
        }
    }

    /// The end of a text that stops at, or before, an IPv4 header.
    fn write_ip_stop(
        &self,
        f: &mut fmt::Formatter<'_>,
        stop: Stop,
        outermost: bool,
    ) -> fmt::Result {
        let length = self.payload_length();
        match stop {
            Stop::Malformed {
                header: Protocol::Ipv4,
                reason,
            } => match reason {
                Malformation::Version(version) if outermost && self.link_type() == LinkType::Ip => {
                    write!(f, "unknown ip {version}")
                }
                Malformation::Version(6) => {
                    f.write_str("IP6, wrong link-layer encapsulation (invalid)")
                }
                Malformation::Version(version) => write!(f, "IP{version} (invalid)"),
                Malformation::HeaderLength(header) => {
                    write_ip(f, length, self.total_length_field())?;
                    write!(f, "bad-hlen {header}")
                }
                Malformation::Length(total) => {
                    write_ip(f, length, total)?;
                    write!(f, "bad-len {total}")
                }
                Malformation::AddressKind => write!(f, "{stop}"),
            },
            Stop::HeaderCut {
                header: Protocol::Ipv4,
                needed,
                present,
            } if present >= 20 => {
                write_ip(f, length, self.total_length_field())?;
                write!(
                    f,
                    " [remaining caplen({present}) < header length({needed})] [|ip]"
                )
            }
            Stop::HeaderCut {
                header: Protocol::Ipv4,
                present,
                ..
            } if present > 0 => f.write_str("IP  [|ip]"),
            Stop::HeaderCut { header, .. } => write!(f, " [|{header}]"),
            Stop::UnknownEtherType(kind) => {
                write!(
                    f,
                    "ethertype Unknown ({kind:#06x}), length {}",
                    self.wire_length()
                )
            }
            other => write!(f, "{other}"),
        }
    }

    /// The total length in the IPv4 header at which decoding stopped.
    fn total_length_field(&self) -> usize {
        match self.payload() {
            &[_, _, high, low, ..] => u16::from_be_bytes([high, low]).into(),
            _ => 0,
        }
    }
}
