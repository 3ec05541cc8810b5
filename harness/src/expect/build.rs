//! Patterns in the words of a test.

use std::marker::PhantomData;
use std::net::Ipv4Addr;

use super::check::{Check, Field, Test, Value};
use super::pattern::{End, Pattern, Stack};
use super::who::{Addresses, Who};
use crate::capture::Direction;
use crate::packet::{TcpFlags, ip_protocol};

/// A pattern that is still being told: what can be asked of it depends on `P`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a pattern alone asserts nothing"]
pub struct Packets<P> {
    stack: Stack,
    protocol: PhantomData<P>,
}

/// Any IPv4 packet that is not encapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {}
/// TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {}
/// UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Udp {}
/// ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {}
/// IPv4 in IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipip {}
/// ARP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arp {}

/// IPv4 packets, whatever is in them but for another IPv4 header.
pub fn ip(from: impl Into<Who>, to: impl Into<Who>) -> Packets<Ip> {
    between(from.into(), to.into(), End::Anything)
}

/// TCP segments.
pub fn tcp(from: impl Into<Who>, to: impl Into<Who>) -> Packets<Tcp> {
    between(from.into(), to.into(), End::Tcp)
}

/// UDP datagrams.
pub fn udp(from: impl Into<Who>, to: impl Into<Who>) -> Packets<Udp> {
    between(from.into(), to.into(), End::Udp)
}

/// ICMP messages.
pub fn icmp(from: impl Into<Who>, to: impl Into<Who>) -> Packets<Icmp> {
    between(from.into(), to.into(), End::Icmp)
}

/// Packets that are encapsulated in IPv4: protocol 4 from one node to another. What is inside is
/// said by [`around`](Packets::around); without, it may be anything.
pub fn ipip(from: impl Into<Who>, to: impl Into<Who>) -> Packets<Ipip> {
    let ipip = between(from.into(), to.into(), End::Encapsulated);
    ipip.of_ip(Check::number(Field::Protocol, ip_protocol::IPIP))
}

/// ARP messages.
pub fn arp() -> Packets<Arp> {
    Packets {
        stack: Stack {
            end: End::Arp,
            ..Stack::default()
        },
        protocol: PhantomData,
    }
}

fn between<P>(from: Who, to: Who, end: End) -> Packets<P> {
    let mut stack = Stack {
        ip: vec![Vec::new()],
        end,
        ..Stack::default()
    };
    let ends = [
        (Field::Source, Field::SourcePort, from),
        (Field::Destination, Field::DestinationPort, to),
    ];
    for (address, port, who) in ends {
        if who.addresses != Addresses::Any {
            let test = Test::In(who.addresses);
            stack.ip[0].push(Check {
                field: address,
                test,
            });
        }
        if let Some(number) = who.port {
            stack.of_end.push(Check::number(port, number));
        }
    }
    Packets {
        stack,
        protocol: PhantomData,
    }
}

impl<P> Packets<P> {
    fn of_ip(mut self, check: Check) -> Self {
        if let Some(innermost) = self.stack.ip.last_mut() {
            innermost.push(check);
        }
        self
    }

    fn of_end(mut self, check: Check) -> Self {
        self.stack.of_end.push(check);
        self
    }

    fn of_whole(mut self, field: Field, test: Test) -> Self {
        self.stack.of_whole.push(Check { field, test });
        self
    }

    /// That come into the device's network namespace, or leave it.
    pub fn going(self, direction: Direction) -> Self {
        let test = Test::Is(Value::Word(direction.to_string().into()));
        self.of_whole(Field::Direction, test)
    }

    /// These, or others.
    pub fn or(self, other: impl Into<Pattern>) -> Pattern {
        Pattern::from(self).or(other)
    }

    /// With any number of IPIP headers before them.
    pub fn at_any_depth(self) -> Pattern {
        Pattern::from(self).at_any_depth()
    }
}

/// What every packet with an IPv4 header has. ARP messages do not.
pub trait HasIp {}
impl HasIp for Ip {}
impl HasIp for Tcp {}
impl HasIp for Udp {}
impl HasIp for Icmp {}
impl HasIp for Ipip {}

impl<P: HasIp> Packets<P> {
    /// With so many hops left.
    pub fn ttl(self, ttl: u8) -> Self {
        self.of_ip(Check::number(Field::Ttl, ttl))
    }

    /// With this type of service: DSCP and ECN in one byte.
    pub fn tos(self, tos: u8) -> Self {
        self.of_ip(Check::number(Field::Tos, tos))
    }

    /// With this differentiated services code point, 6 bits.
    pub fn dscp(self, dscp: u8) -> Self {
        self.of_ip(Check::number(Field::Dscp, dscp))
    }

    /// With these ECN bits (RFC 3168): 0 is Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
    pub fn ecn(self, ecn: u8) -> Self {
        let words = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"];
        self.of_ip(Check::word(Field::Ecn, words[usize::from(ecn & 3)]))
    }

    /// With the DF bit set, or not.
    pub fn dont_fragment(self, set: bool) -> Self {
        self.of_ip(Check::word(Field::DontFragment, is_set(set)))
    }

    /// With the MF bit set, or not.
    pub fn more_fragments(self, set: bool) -> Self {
        self.of_ip(Check::word(Field::MoreFragments, is_set(set)))
    }

    /// Whose payload belongs so many bytes behind the beginning of the whole packet's. Behind a
    /// fragment that is not the first there is no transport header: it is [`ip()`].
    pub fn fragment_offset(self, bytes: u16) -> Self {
        self.of_ip(Check::number(Field::FragmentOffset, bytes))
    }

    /// Of this length in bytes, IP header included.
    pub fn length(self, bytes: u16) -> Self {
        self.of_ip(Check::number(Field::Length, bytes))
    }

    /// At least so long in bytes, IP header included.
    pub fn length_at_least(self, bytes: u16) -> Self {
        let test = Test::AtLeast(bytes.into());
        self.of_ip(Check {
            field: Field::Length,
            test,
        })
    }

    /// At most so long in bytes, IP header included.
    pub fn length_at_most(self, bytes: u16) -> Self {
        let test = Test::AtMost(bytes.into());
        self.of_ip(Check {
            field: Field::Length,
            test,
        })
    }

    /// With this identification, which the fragments of a packet share.
    pub fn identification(self, id: u16) -> Self {
        self.of_ip(Check::number(Field::Identification, id))
    }

    /// Whose IP header has the right checksum, or a wrong one.
    pub fn header_checksum(self, right: bool) -> Self {
        let word = if right { "right" } else { "wrong" };
        self.of_ip(Check::word(Field::HeaderChecksum, word))
    }
}

impl Packets<Ip> {
    /// With this protocol number.
    pub fn protocol(self, number: u8) -> Self {
        self.of_ip(Check::number(Field::Protocol, number))
    }
}

/// What carries a payload for an application.
pub trait HasPayload {}
impl HasPayload for Ip {}
impl HasPayload for Tcp {}
impl HasPayload for Udp {}
impl HasPayload for Icmp {}

impl<P: HasPayload> Packets<P> {
    /// With exactly this behind the last header.
    pub fn payload(self, bytes: impl AsRef<[u8]>) -> Self {
        self.of_whole(Field::Payload, Test::IsBytes(bytes.as_ref().to_vec()))
    }

    /// Whose payload begins like this.
    pub fn payload_begins(self, bytes: impl AsRef<[u8]>) -> Self {
        self.of_whole(Field::Payload, Test::Begins(bytes.as_ref().to_vec()))
    }

    /// Whose payload has this somewhere.
    pub fn payload_contains(self, bytes: impl AsRef<[u8]>) -> Self {
        self.of_whole(Field::Payload, Test::Contains(bytes.as_ref().to_vec()))
    }

    /// With a payload of so many bytes, as the headers declare it.
    pub fn payload_length(self, bytes: u16) -> Self {
        let test = Test::Is(Value::Number(bytes.into()));
        self.of_whole(Field::PayloadLength, test)
    }
}

/// What has ports.
pub trait HasPorts {}
impl HasPorts for Tcp {}
impl HasPorts for Udp {}

impl<P: HasPorts> Packets<P> {
    /// From this port; short for `(from, port)`.
    pub fn from_port(self, port: u16) -> Self {
        self.of_end(Check::number(Field::SourcePort, port))
    }

    /// To this port; short for `(to, port)`.
    pub fn to_port(self, port: u16) -> Self {
        self.of_end(Check::number(Field::DestinationPort, port))
    }
}

impl Packets<Tcp> {
    /// With SYN set. The flags that are named are all: `.syn()` is no SYN-ACK, which would be
    /// `.syn().ack()`.
    pub fn syn(self) -> Self {
        self.and_flag(TcpFlags::SYN)
    }

    /// With ACK set; see [`syn`](Self::syn).
    pub fn ack(self) -> Self {
        self.and_flag(TcpFlags::ACK)
    }

    /// With PSH set; see [`syn`](Self::syn).
    pub fn psh(self) -> Self {
        self.and_flag(TcpFlags::PSH)
    }

    /// With FIN set; see [`syn`](Self::syn).
    pub fn fin(self) -> Self {
        self.and_flag(TcpFlags::FIN)
    }

    /// With RST set; see [`syn`](Self::syn).
    pub fn rst(self) -> Self {
        self.and_flag(TcpFlags::RST)
    }

    /// With exactly these flags.
    pub fn flags(self, flags: TcpFlags) -> Self {
        self.of_end(Check {
            field: Field::Flags,
            test: Test::Is(Value::Flags(flags)),
        })
    }

    /// With at least these flags.
    pub fn has(self, flags: TcpFlags) -> Self {
        self.of_end(Check {
            field: Field::Flags,
            test: Test::Has(flags),
        })
    }

    /// With this sequence number.
    pub fn sequence(self, number: u32) -> Self {
        self.of_end(Check::number(Field::Sequence, number))
    }

    /// With this acknowledgment number.
    pub fn acknowledgment(self, number: u32) -> Self {
        self.of_end(Check::number(Field::Acknowledgment, number))
    }

    /// With this window, not scaled.
    pub fn window(self, window: u16) -> Self {
        self.of_end(Check::number(Field::Window, window))
    }

    /// With the option that tells this maximum segment size in bytes.
    pub fn mss(self, bytes: u16) -> Self {
        self.of_end(Check::number(Field::MaximumSegment, bytes))
    }

    fn and_flag(mut self, flag: TcpFlags) -> Self {
        let mut checks = self.stack.of_end.iter_mut();
        let flags = checks.find_map(|check| match &mut check.test {
            Test::Is(Value::Flags(flags)) => Some(flags),
            _ => None,
        });
        match flags {
            Some(flags) => *flags = *flags | flag,
            None => return self.flags(flag),
        }
        self
    }
}

impl Packets<Icmp> {
    /// Pings.
    pub fn echo_request(self) -> Self {
        self.of_end(Check::word(Field::IcmpType, "echo request"))
    }

    /// Answers to pings.
    pub fn echo_reply(self) -> Self {
        self.of_end(Check::word(Field::IcmpType, "echo reply"))
    }

    /// With this identifier of an echo.
    pub fn id(self, id: u16) -> Self {
        self.of_end(Check::number(Field::IcmpId, id))
    }

    /// With this sequence number of an echo.
    pub fn sequence(self, number: u16) -> Self {
        self.of_end(Check::number(Field::IcmpSequence, number))
    }

    /// Destination unreachable with this code: 0 network, 1 host, 2 protocol, 3 port.
    pub fn unreachable(self, code: u8) -> Self {
        let kind = self.of_end(Check::word(Field::IcmpType, "unreachable"));
        kind.of_end(Check::number(Field::IcmpCode, code))
    }

    /// Fragmentation needed, for a next hop with this MTU.
    pub fn fragmentation_needed(self, mtu: u16) -> Self {
        let kind = self.of_end(Check::word(Field::IcmpType, "fragmentation needed"));
        kind.of_end(Check::number(Field::IcmpMtu, mtu))
    }

    /// Time exceeded: the TTL ran out on the way.
    pub fn time_exceeded(self) -> Self {
        let kind = self.of_end(Check::word(Field::IcmpType, "time exceeded"));
        kind.of_end(Check::number(Field::IcmpCode, 0u8))
    }
}

impl Packets<Ipip> {
    /// With this inside.
    pub fn around(self, inner: impl Into<Pattern>) -> Pattern {
        let outer = self.stack;
        let alternatives = inner.into().alternatives.into_iter().map(|inner| Stack {
            ip: outer.ip.iter().cloned().chain(inner.ip).collect(),
            end: inner.end,
            of_end: inner.of_end,
            of_whole: [outer.of_whole.clone(), inner.of_whole].concat(),
            any_depth: inner.any_depth,
        });
        Pattern {
            alternatives: alternatives.collect(),
        }
    }
}

impl Packets<Arp> {
    /// Requests for an address.
    pub fn request(self) -> Self {
        self.of_end(Check::word(Field::ArpOperation, "request"))
    }

    /// Replies.
    pub fn reply(self) -> Self {
        self.of_end(Check::word(Field::ArpOperation, "reply"))
    }

    /// From whoever has this address.
    pub fn sender(self, address: impl Into<Ipv4Addr>) -> Self {
        self.of_end(Check {
            field: Field::ArpSender,
            test: Test::Is(Value::Address(address.into())),
        })
    }

    /// That ask for this address, or answer to it.
    pub fn target(self, address: impl Into<Ipv4Addr>) -> Self {
        self.of_end(Check {
            field: Field::ArpTarget,
            test: Test::Is(Value::Address(address.into())),
        })
    }
}

impl<P> From<Packets<P>> for Pattern {
    fn from(packets: Packets<P>) -> Self {
        Pattern {
            alternatives: vec![packets.stack],
        }
    }
}

fn is_set(set: bool) -> &'static str {
    if set { "set" } else { "not set" }
}
