//! Patterns of packets: a stack of headers and what is asked of their fields.

use std::fmt;

use super::check::{Check, Field, Test, Value};
use crate::capture::Captured;
use crate::event::{How, Protocol};
use crate::packet::{Header, Ipv4, Packet, Transport, ip_protocol};

/// Which packets are meant. Made by [`ip`](super::ip()), [`tcp`](super::tcp()),
/// [`udp`](super::udp()), [`icmp`](super::icmp()), [`ipip`](super::ipip()) and
/// [`arp`](super::arp()), joined by [`or`](Pattern::or).
///
/// A pattern describes the headers from the outermost IP header on: `tcp(&a, &b)` means plain TCP
/// and nothing that is encapsulated; that would be `ipip(&m, &n).around(tcp(&a, &b))`. What may be
/// either is said by [`at_any_depth`](Pattern::at_any_depth).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// One of these; there is at least one.
    pub(super) alternatives: Vec<Stack>,
}

/// A stack of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stack {
    /// For each IPv4 header, outermost first; none for ARP.
    pub(super) ip: Vec<Vec<Check>>,
    pub(super) end: End,
    /// What is asked of what follows the last of `ip`, or of the ARP message.
    pub(super) of_end: Vec<Check>,
    /// What is asked of the packet as a whole.
    pub(super) of_whole: Vec<Check>,
    /// Outer headers before those in `ip` are let pass.
    pub(super) any_depth: bool,
}

/// What follows the last IPv4 header of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// Whatever there is, but for another IPv4 header.
    #[default]
    Anything,
    /// Whatever is encapsulated.
    Encapsulated,
    Tcp,
    Udp,
    Icmp,
    /// There is no IPv4 header.
    Arp,
}

/// How one field of a packet compares with what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// `outer ttl`.
    pub(super) field: String,
    pub(super) expected: String,
    /// Absent when the packet has no such field.
    pub(super) actual: Option<String>,
    pub(super) holds: bool,
}

impl Pattern {
    /// Packets that match this pattern or the other one.
    #[must_use]
    pub fn or(mut self, other: impl Into<Pattern>) -> Pattern {
        self.alternatives.extend(other.into().alternatives);
        self
    }

    /// Lets any number of IPIP headers stand before the outermost header of the pattern.
    #[must_use]
    pub fn at_any_depth(mut self) -> Pattern {
        for stack in &mut self.alternatives {
            stack.any_depth = true;
        }
        self
    }

    /// Whether a packet is one of those that are meant.
    #[must_use]
    pub fn matches(&self, captured: &Captured) -> bool {
        self.alternatives
            .iter()
            .any(|stack| stack.matches(captured))
    }

    /// Every field that is asked for, compared with the alternative that comes nearest.
    pub(super) fn compare(&self, captured: &Captured) -> Vec<Row> {
        let all = self.alternatives.iter().map(|stack| stack.rows(captured));
        all.min_by_key(|rows| differing(rows)).unwrap_or_default()
    }

    /// From whom to whom, where it is about one pair.
    pub(super) fn pair(&self) -> Option<(String, String)> {
        let [stack] = &self.alternatives[..] else {
            return None;
        };
        let innermost = stack.ip.last()?;
        let end = |field| {
            innermost.iter().find_map(|check| match &check.test {
                Test::In(addresses) if check.field == field => addresses.single(),
                _ => None,
            })
        };
        end(Field::Source).zip(end(Field::Destination))
    }
}

impl Pattern {
    /// How such a packet is sent, as far as that can be said: its protocol and port.
    pub(super) fn how(&self) -> How {
        let stack = self.alternatives.first();
        let end = stack.map_or(End::Anything, |stack| stack.end);
        let checks = stack.into_iter().flat_map(|stack| &stack.of_end);
        let mut ports = checks.filter_map(|check| match (check.field, &check.test) {
            (Field::DestinationPort, Test::Is(Value::Number(port))) => u16::try_from(*port).ok(),
            _ => None,
        });
        let protocol = match end {
            End::Tcp => Protocol::Tcp,
            End::Udp => Protocol::Udp,
            _ => Protocol::Icmp,
        };
        How::by(protocol).port(ports.next())
    }
}

/// How many fields are not as expected.
pub(super) fn differing(rows: &[Row]) -> usize {
    rows.iter().filter(|row| !row.holds).count()
}

impl Stack {
    fn matches(&self, captured: &Captured) -> bool {
        let packet = &captured.packet;
        self.has_the_headers_of(packet)
            && self.checks().all(|(place, check)| {
                let value = place.value(self, check.field, captured);
                value.is_some_and(|value| check.test.holds(&value))
            })
    }

    /// Every check with the place of its field, outermost first.
    fn checks(&self) -> impl Iterator<Item = (Place, &Check)> {
        let ip = self.ip.iter().enumerate();
        let ip = ip.flat_map(|(level, checks)| {
            let at = Place::Ip(level);
            checks.iter().map(move |check| (at, check))
        });
        let end = self.of_end.iter().map(|check| (Place::End, check));
        let whole = self.of_whole.iter().map(|check| (Place::Whole, check));
        ip.chain(end).chain(whole)
    }

    fn has_the_headers_of(&self, packet: &Packet) -> bool {
        let count = packet.ipv4_headers().count();
        let wanted = self.ip.len();
        let depth = match (self.any_depth, self.end) {
            (_, End::Arp) => count == 0,
            (true, End::Encapsulated) => count > wanted,
            // A fragment that is not the first shows one header only, and is encapsulated.
            (false, End::Encapsulated) => count >= wanted,
            (true, _) => count >= wanted,
            (false, _) => count == wanted,
        };
        depth
            && match self.end {
                End::Anything => {
                    let last = packet.inner_ipv4();
                    last.is_some_and(|ip| ip.protocol != ip_protocol::IPIP)
                }
                End::Encapsulated => true,
                End::Tcp => packet.tcp().is_some(),
                End::Udp => packet.udp().is_some(),
                End::Icmp => packet.icmp().is_some(),
                End::Arp => packet.arp().is_some(),
            }
    }

    fn rows(&self, captured: &Captured) -> Vec<Row> {
        let packet = &captured.packet;
        let headers = Row {
            field: "headers".to_owned(),
            expected: self.headers(),
            actual: Some(headers(packet)),
            holds: self.has_the_headers_of(packet),
        };
        let rows = self.checks().map(|(place, check)| {
            let value = place.value(self, check.field, captured);
            Row {
                field: place.name(self, check.field),
                expected: check.test.to_string(),
                holds: value.as_ref().is_some_and(|value| check.test.holds(value)),
                actual: value.map(|value| value.to_string()),
            }
        });
        std::iter::once(headers).chain(rows).collect()
    }

    /// The header of the packet that a level of the pattern speaks of. Where there are more or
    /// fewer than expected, the innermost are compared with each other, and from the outside the
    /// others as far as they go.
    fn ipv4<'p>(&self, level: usize, packet: &'p Packet) -> Option<&'p Ipv4> {
        let count = packet.ipv4_headers().count();
        let encapsulated = usize::from(self.end == End::Encapsulated);
        let from_inside = self.ip.len() + encapsulated - level;
        let place = match from_inside == 1 || self.any_depth {
            true => count.checked_sub(from_inside),
            false => (level + 1 < count + encapsulated).then_some(level),
        };
        packet.ipv4_headers().nth(place?)
    }

    fn headers(&self) -> String {
        let mut names = vec!["ip"; self.ip.len()];
        if self.any_depth {
            names.insert(0, "…");
        }
        names.extend(match self.end {
            End::Anything => None,
            End::Encapsulated => Some("ip …"),
            End::Tcp => Some("tcp"),
            End::Udp => Some("udp"),
            End::Icmp => Some("icmp"),
            End::Arp => Some("arp"),
        });
        names.join(" / ")
    }
}

/// The headers of a packet behind those of the link.
fn headers(packet: &Packet) -> String {
    let names = packet
        .layers()
        .iter()
        .filter_map(|layer| match layer.header {
            Header::Ethernet(_) | Header::Vlan(_) => None,
            Header::Arp(_) => Some("arp"),
            Header::Ipv4(_) => Some("ip"),
            Header::Icmp(_) => Some("icmp"),
            Header::Tcp(_) => Some("tcp"),
            Header::Udp(_) => Some("udp"),
        });
    let names: Vec<&str> = names.collect();
    match (names.join(" / "), packet.stop()) {
        (names, None) => names,
        (names, Some(stop)) if names.is_empty() => stop.to_string(),
        (names, Some(stop)) => format!("{names} ({stop})"),
    }
}

/// Where in a packet a field is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The IPv4 header of this level.
    Ip(usize),
    End,
    Whole,
}

impl Place {
    fn value<'c>(self, stack: &Stack, field: Field, captured: &'c Captured) -> Option<Value<'c>> {
        let packet = &captured.packet;
        match self {
            Self::Ip(level) => field.of_ipv4(stack.ipv4(level, packet)?),
            Self::End => match (stack.end, packet.transport()) {
                (End::Arp, _) => field.of_arp(packet.arp()?),
                (End::Tcp, Some(transport @ Transport::Tcp(_)))
                | (End::Udp, Some(transport @ Transport::Udp(_)))
                | (End::Icmp, Some(transport @ Transport::Icmp(_))) => {
                    field.of_transport(transport)
                }
                _ => None,
            },
            Self::Whole => field.of_whole(captured),
        }
    }

    fn name(self, stack: &Stack, field: Field) -> String {
        let levels = stack.ip.len() + usize::from(stack.end == End::Encapsulated);
        match (self, levels) {
            (Self::Ip(_), 1) => format!("ip {field}"),
            (Self::Ip(0), _) => format!("outer {field}"),
            (Self::Ip(level), _) if level + 1 == levels => format!("inner {field}"),
            (Self::Ip(level), _) => format!("ip {} {field}", level + 1),
            (Self::End, _) => format!("{} {field}", stack.end),
            (Self::Whole, _) => field.to_string(),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anything | Self::Encapsulated => "ip",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Arp => "arp",
        })
    }
}

/// In one line: `ipip n1 > n2 around tcp a > b:8080, flags [S]`.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stack) in self.alternatives.iter().enumerate() {
            let between = if index == 0 { "" } else { " or " };
            write!(f, "{between}{stack}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any_depth {
            f.write_str("at any depth ")?;
        }
        let last = self.ip.len().saturating_sub(1);
        for (level, checks) in self.ip.iter().enumerate() {
            let is_last = level == last;
            let kind = match self.end {
                End::Encapsulated => "ipip",
                _ if !is_last => "ipip",
                end => match end {
                    End::Tcp => "tcp",
                    End::Udp => "udp",
                    End::Icmp => "icmp",
                    _ => "ip",
                },
            };
            if level > 0 {
                f.write_str(" around ")?;
            }
            let ports = if is_last { &self.of_end[..] } else { &[] };
            write!(f, "{kind} ")?;
            end(f, checks, ports, Field::Source, Field::SourcePort)?;
            f.write_str(" > ")?;
            end(f, checks, ports, Field::Destination, Field::DestinationPort)?;
            let implied = |check: &&Check| check.field.is_end() || check.is_implied(kind);
            others(f, checks.iter().filter(|check| !implied(check)))?;
        }
        if self.end == End::Arp {
            f.write_str("arp")?;
        }
        let end = self.of_end.iter().filter(|check| !check.field.is_end());
        others(f, end.chain(&self.of_whole))
    }
}

impl Check {
    /// What the name of the pattern says already.
    fn is_implied(&self, kind: &str) -> bool {
        kind == "ipip" && self.field == Field::Protocol
    }
}

fn end(
    f: &mut fmt::Formatter<'_>,
    ip: &[Check],
    transport: &[Check],
    address: Field,
    port: Field,
) -> fmt::Result {
    match ip.iter().find(|check| check.field == address) {
        Some(Check {
            test: Test::In(addresses),
            ..
        }) => write!(f, "{addresses}")?,
        _ => f.write_str("anybody")?,
    }
    match transport.iter().find(|check| check.field == port) {
        Some(check) => write!(f, ":{}", check.test),
        None => Ok(()),
    }
}

fn others<'a>(f: &mut fmt::Formatter<'_>, checks: impl Iterator<Item = &'a Check>) -> fmt::Result {
    for check in checks {
        write!(f, ", {} {}", check.field, check.test)?;
    }
    Ok(())
}
