//! ICMP, as tcpdump prints it.

use std::fmt;
use std::net::Ipv4Addr;

use super::super::{Icmp, IcmpMessage, Packet};

impl Packet {
    pub(super) fn write_icmp(
        &self,
        f: &mut fmt::Formatter<'_>,
        icmp: &Icmp,
        length: usize,
    ) -> fmt::Result {
        let quoted = Quoted(self.payload());
        match &icmp.message {
            IcmpMessage::EchoReply { id, sequence } => {
                write!(f, "ICMP echo reply, id {id}, seq {sequence}")
            }
            IcmpMessage::EchoRequest { id, sequence } => {
                write!(f, "ICMP echo request, id {id}, seq {sequence}")
            }
            IcmpMessage::Unreachable { .. }
            | IcmpMessage::FragmentationNeeded { .. }
            | IcmpMessage::Redirect { .. }
            | IcmpMessage::TimeExceeded { .. } => match quoted.reason(&icmp.message) {
                Some(reason) => write!(f, "ICMP {reason}"),
                None => return f.write_str(" [|icmp]"),
            },
            IcmpMessage::ParameterProblem { code: 0, pointer } => {
                write!(f, "ICMP parameter problem - octet {pointer}")
            }
            IcmpMessage::ParameterProblem { code, .. } => {
                write!(f, "ICMP parameter problem - code {code}")
            }
            IcmpMessage::Other {
                kind: 13,
                rest: [a, b, c, d],
                ..
            } => {
                let (id, sequence) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                write!(f, "ICMP time stamp query id {id} seq {sequence}")
            }
            IcmpMessage::Other { kind: 4, .. } => f.write_str("ICMP source quench"),
            IcmpMessage::Other { kind: 10, .. } => f.write_str("ICMP router solicitation"),
            IcmpMessage::Other { kind: 15, .. } => f.write_str("ICMP information request"),
            IcmpMessage::Other { kind: 16, .. } => f.write_str("ICMP information reply"),
            IcmpMessage::Other { kind: 17, .. } => f.write_str("ICMP address mask request"),
            IcmpMessage::Other { kind, .. } => write!(f, "ICMP type-#{kind}"),
        }?;
        write!(f, ", length {length}")
    }
}

/// The packet inside an ICMP error, read as tcpdump reads it: at fixed places, without checks.
struct Quoted<'a>(&'a [u8]);

impl Quoted<'_> {
    /// What an error says; `None` when the quoted packet is too short for it.
    fn reason(&self, message: &IcmpMessage) -> Option<String> {
        let target = {
            let octets: [u8; 4] = self.0.get(16..20)?.try_into().ok()?;
            Ipv4Addr::from(octets)
        };
        let protocol = *self.0.get(9)?;
        Some(match message {
            IcmpMessage::FragmentationNeeded { mtu: 0 } => {
                format!("{target} unreachable - need to frag")
            }
            IcmpMessage::FragmentationNeeded { mtu } => {
                format!("{target} unreachable - need to frag (mtu {mtu})")
            }
            IcmpMessage::Unreachable { code } => match code {
                0 => format!("net {target} unreachable"),
                1 => format!("host {target} unreachable"),
                2 => format!("{target} protocol {protocol} unreachable"),
                3 => {
                    let port = self.destination_port()?;
                    match protocol {
                        6 => format!("{target} tcp port {port} unreachable"),
                        17 => format!("{target} udp port {port} unreachable"),
                        other => format!("{target} protocol {other} port {port} unreachable"),
                    }
                }
                5 => format!("{target} unreachable - source route failed"),
                6 => format!("net {target} unreachable - unknown"),
                7 => format!("host {target} unreachable - unknown"),
                8 => format!("{target} unreachable - source host isolated"),
                9 => format!("net {target} unreachable - admin prohibited"),
                10 => format!("host {target} unreachable - admin prohibited"),
                11 => format!("net {target} unreachable - tos prohibited"),
                12 => format!("host {target} unreachable - tos prohibited"),
                13 => format!("host {target} unreachable - admin prohibited filter"),
                14 => format!("host {target} unreachable - host precedence violation"),
                15 => format!("host {target} unreachable - precedence cutoff"),
                code => format!("{target} unreachable - #{code}"),
            },
            IcmpMessage::Redirect { code, gateway } => match code {
                0 => format!("redirect {target} to net {gateway}"),
                1 => format!("redirect {target} to host {gateway}"),
                2 => format!("redirect-tos {target} to net {gateway}"),
                3 => format!("redirect-tos {target} to host {gateway}"),
                code => format!("redirect-#{code} {target} to {gateway}"),
            },
            IcmpMessage::TimeExceeded { code: 0 } => "time exceeded in-transit".to_owned(),
            IcmpMessage::TimeExceeded { code: 1 } => "ip reassembly time exceeded".to_owned(),
            IcmpMessage::TimeExceeded { code } => format!("time exceeded-#{code}"),
            _ => return None,
        })
    }

    fn destination_port(&self) -> Option<u16> {
        let header_length = usize::from(self.0.first()? & 0xf) * 4;
        match self.0.get(header_length + 2..header_length + 4)? {
            &[high, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }
}
