//! Echo requests as bytes, and which received packets answer them: pure functions.

use super::error::{Corruption, IcmpError};
use crate::probe::pattern;
use etherparse::checksum::Sum16BitWords;
use etherparse::icmpv4::{
    CODE_DST_UNREACH_NEED_FRAG, TYPE_DEST_UNREACH, TYPE_ECHO_REPLY, TYPE_ECHO_REQUEST,
    TYPE_PARAMETER_PROBLEM, TYPE_TIME_EXCEEDED,
};
use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, IpNumber, Ipv4HeaderSlice,
};
use socket2::SockFilter;
use std::net::Ipv4Addr;

/// An echo request that was sent, and by which its answers are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) target: Ipv4Addr,
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
    pub(crate) payload_len: usize,
}

/// What a received packet says about an [`Echo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Our payload came back. `ttl` is what was left of it on arrival.
    Reply { from: Ipv4Addr, ttl: u8 },
    /// A reply to our request with something else in it.
    Corrupted {
        from: Ipv4Addr,
        corruption: Corruption,
    },
    /// An ICMP error about our request.
    Error { router: Ipv4Addr, error: IcmpError },
}

impl Echo {
    /// The ICMP message, without IP header.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let payload = pattern::payload(self.start(), self.payload_len);
        let echo = Icmpv4Type::EchoRequest(self.header());
        let header = Icmpv4Header::with_checksum(echo, &payload);
        [header.to_bytes().as_slice(), &payload].concat()
    }

    fn header(&self) -> IcmpEchoHeader {
        IcmpEchoHeader {
            id: self.identifier,
            seq: self.sequence,
        }
    }

    /// Differs from request to request and along the packet, so that neither another request's
    /// payload nor a shifted one passes for ours.
    fn start(&self) -> u32 {
        (u32::from(self.identifier) << 16) | u32::from(self.sequence)
    }

    /// What `packet`, an IPv4 packet as a raw socket receives it, says about this request;
    /// `None` for everything that is not about it.
    pub(crate) fn answer(&self, packet: &[u8]) -> Option<Answer> {
        let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
        let message = packet.get(ip.slice().len()..usize::from(ip.total_len()))?;
        let icmp = icmp_of(&ip, message)?;
        let intact = Sum16BitWords::new().add_slice(message).ones_complement() == 0;
        let from = ip.source_addr();
        if icmp.type_u8() == TYPE_ECHO_REPLY {
            if IcmpEchoHeader::from_bytes(icmp.bytes5to8()) != self.header() {
                return None;
            }
            return Some(match self.corruption(icmp.payload(), intact) {
                Some(corruption) => Answer::Corrupted { from, corruption },
                None => Answer::Reply {
                    from,
                    ttl: ip.ttl(),
                },
            });
        }
        let error = error_of(&icmp)?;
        (intact && self.is_quoted_in(icmp.payload())).then_some(Answer::Error {
            router: from,
            error,
        })
    }

    fn corruption(&self, payload: &[u8], intact: bool) -> Option<Corruption> {
        if payload.len() != self.payload_len {
            return Some(Corruption::Length {
                received: payload.len(),
                sent: self.payload_len,
            });
        }
        match pattern::difference(self.start(), payload) {
            Some(offset) => Some(Corruption::Payload { offset }),
            None if !intact => Some(Corruption::Checksum),
            None => None,
        }
    }

    /// Whether an ICMP error quotes our request. Only its IP header and eight bytes are sure
    /// to be there (RFC 792); its length field speaks of the whole request.
    fn is_quoted_in(&self, quote: &[u8]) -> bool {
        let Ok(ip) = Ipv4HeaderSlice::from_slice(quote) else {
            return false;
        };
        quote
            .get(ip.slice().len()..)
            .and_then(|message| icmp_of(&ip, message))
            .is_some_and(|icmp| {
                ip.destination_addr() == self.target
                    && icmp.type_u8() == TYPE_ECHO_REQUEST
                    && IcmpEchoHeader::from_bytes(icmp.bytes5to8()) == self.header()
            })
    }
}

/// The sequence number of the request that a received packet is about: of an echo reply, or of the
/// request that an ICMP error quotes.
pub(crate) fn subject(packet: &[u8]) -> Option<u16> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let icmp = icmp_of(&ip, packet.get(ip.slice().len()..)?)?;
    if icmp.type_u8() == TYPE_ECHO_REPLY {
        return Some(IcmpEchoHeader::from_bytes(icmp.bytes5to8()).seq);
    }
    error_of(&icmp)?;
    let quoted = Ipv4HeaderSlice::from_slice(icmp.payload()).ok()?;
    let message = icmp.payload().get(quoted.slice().len()..)?;
    let request = icmp_of(&quoted, message)?;
    Some(IcmpEchoHeader::from_bytes(request.bytes5to8()).seq)
}

/// The ICMP message in an IPv4 packet, unless it is a later fragment, which has no header.
pub(super) fn icmp_of<'a>(ip: &Ipv4HeaderSlice<'_>, message: &'a [u8]) -> Option<Icmpv4Slice<'a>> {
    (ip.protocol() == IpNumber::ICMP && ip.fragments_offset().value() == 0)
        .then(|| Icmpv4Slice::from_slice(message).ok())
        .flatten()
}

fn error_of(icmp: &Icmpv4Slice<'_>) -> Option<IcmpError> {
    let [pointer, _, mtu @ ..] = icmp.bytes5to8();
    Some(match (icmp.type_u8(), icmp.code_u8()) {
        (TYPE_DEST_UNREACH, CODE_DST_UNREACH_NEED_FRAG) => IcmpError::FragmentationNeeded {
            mtu: u16::from_be_bytes(mtu),
        },
        (TYPE_DEST_UNREACH, code) => IcmpError::Unreachable { code },
        (TYPE_TIME_EXCEEDED, code) => IcmpError::TimeExceeded { code },
        (TYPE_PARAMETER_PROBLEM, _) => IcmpError::ParameterProblem { pointer },
        _ => return None,
    })
}

/// A kernel filter that lets through what [`Echo::answer`] can be interested in: replies with
/// our identifier, and ICMP errors. A raw socket is otherwise sent every ICMP packet of its
/// namespace, and a thousand pings in parallel would fill each other's queues.
pub(super) fn filter(identifier: u16) -> [SockFilter; 10] {
    /// Classic BPF, as in `linux/bpf_common.h`.
    const LOAD_IP_HEADER_LEN_INTO_X: u16 = 0xb1;
    const LOAD_BYTE_AT_X_PLUS: u16 = 0x50;
    const LOAD_HALF_AT_X_PLUS: u16 = 0x48;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let jump = |value: u32, then, or_else| SockFilter::new(JUMP_IF_EQUAL, then, or_else, value);
    [
        SockFilter::new(LOAD_IP_HEADER_LEN_INTO_X, 0, 0, 0),
        SockFilter::new(LOAD_BYTE_AT_X_PLUS, 0, 0, 0),
        jump(TYPE_DEST_UNREACH.into(), 5, 0),
        jump(TYPE_TIME_EXCEEDED.into(), 4, 0),
        jump(TYPE_PARAMETER_PROBLEM.into(), 3, 0),
        // An echo request of somebody else has its identifier at the same place.
        jump(TYPE_ECHO_REPLY.into(), 0, 3),
        SockFilter::new(LOAD_HALF_AT_X_PLUS, 0, 0, 4),
        jump(identifier.into(), 0, 1),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
