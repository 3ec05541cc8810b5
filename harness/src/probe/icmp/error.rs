//! What can go wrong with a ping, in types.

use crate::patience::PatienceError;
use crate::probe::refusal::Refusal;
use std::fmt::{self, Display};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Why a ping has no reply to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The socket could not be made.
    #[error(
        "open a raw ICMP socket: {source}\n\
         hint: it takes CAP_NET_RAW in the user namespace that owns the network namespace"
    )]
    Open {
        /// The kernel's error.
        source: io::Error,
    },
    /// An option of the ping was not accepted.
    #[error("ping {target}: set {option}: {source}")]
    Configure {
        /// The address to be pinged.
        target: Ipv4Addr,
        /// Which option.
        option: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The source address asked for is none of the namespace.
    #[error(
        "ping {target}: cannot send from {address}: {source}\n\
         hint: `ip -4 address` in the same namespace lists the addresses to choose from"
    )]
    SourceAddress {
        /// The address to be pinged.
        target: Ipv4Addr,
        /// The source address that was asked for.
        address: Ipv4Addr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The local kernel did not send the request.
    #[error(
        "ping {target}: not sent: {refusal} ({source})\n\
         hint: `ip route get {target}` in the same namespace shows the route"
    )]
    NotSent {
        /// The address to be pinged.
        target: Ipv4Addr,
        /// What the error says about the way to the target.
        refusal: Refusal,
        /// The kernel's error.
        source: io::Error,
    },
    /// A router, or the target itself, answered with an ICMP error.
    #[error("ping {target}: {router} says {error}")]
    Icmp {
        /// The address that was pinged.
        target: Ipv4Addr,
        /// Who sent the error; an address of our own when the neighbour did not answer ARP.
        router: Ipv4Addr,
        /// What it said.
        error: IcmpError,
    },
    /// The reply is not what was sent.
    #[error("ping {target}: reply from {from} is corrupted: {corruption}")]
    Corrupted {
        /// The address that was pinged.
        target: Ipv4Addr,
        /// Who replied.
        from: Ipv4Addr,
        /// The first difference.
        corruption: Corruption,
    },
    /// Nothing came back in time.
    #[error("ping {target}: no answer to icmp_seq={sequence} within {timeout:?}")]
    TimedOut {
        /// The address that was pinged.
        target: Ipv4Addr,
        /// Sequence number of the request, to find it in a capture.
        sequence: u16,
        /// The time limit, patience included.
        timeout: Duration,
    },
    /// The socket could not be read.
    #[error("ping {target}: receive: {source}")]
    Receive {
        /// The address that was pinged.
        target: Ipv4Addr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The patience factor is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
}

/// An ICMP error message (RFC 792, RFC 1191, RFC 1812).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IcmpError {
    /// Destination unreachable, with any code but 4.
    Unreachable {
        /// 0 network, 1 host, 13 administratively prohibited; the others in RFC 1812, 5.2.7.1.
        code: u8,
    },
    /// The request is larger than the next link takes, and it may not be fragmented.
    FragmentationNeeded {
        /// MTU of the next link in bytes, IP header included; 0 from very old routers.
        mtu: u16,
    },
    /// The request was given up on its way.
    TimeExceeded {
        /// 0 the TTL ran out, 1 fragments were missing.
        code: u8,
    },
    /// A router did not understand the request's header.
    ParameterProblem {
        /// Offset of the byte that was not understood.
        pointer: u8,
    },
}

impl Display for IcmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { code } => match unreachable(*code) {
                Some(text) => f.write_str(text),
                None => write!(f, "destination unreachable, code {code}"),
            },
            Self::FragmentationNeeded { mtu } => write!(f, "fragmentation needed, mtu {mtu}"),
            Self::TimeExceeded { code: 0 } => f.write_str("time to live exceeded"),
            Self::TimeExceeded { .. } => f.write_str("fragment reassembly time exceeded"),
            Self::ParameterProblem { pointer } => {
                write!(f, "parameter problem at byte {pointer}")
            }
        }
    }
}

fn unreachable(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "network unreachable",
        1 => "host unreachable",
        2 => "protocol unreachable",
        3 => "port unreachable",
        5 => "source route failed",
        6 => "network unknown",
        7 => "host unknown",
        8 => "source host isolated",
        9 => "network prohibited",
        10 => "host prohibited",
        11 => "network unreachable for this type of service",
        12 => "host unreachable for this type of service",
        13 => "administratively prohibited",
        14 => "host precedence violation",
        15 => "precedence cutoff",
        _ => return None,
    })
}

/// How a reply differs from its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corruption {
    /// The payload is shorter or longer.
    Length {
        /// Bytes that came back.
        received: usize,
        /// Bytes that were sent.
        sent: usize,
    },
    /// A byte of the payload differs.
    Payload {
        /// Offset of the first such byte.
        offset: usize,
    },
    /// The payload is right and the ICMP checksum is not.
    Checksum,
}

impl Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { received, sent } => {
                write!(f, "payload of {received} bytes, {sent} were sent")
            }
            Self::Payload { offset } => write!(f, "payload differs from byte {offset} on"),
            Self::Checksum => f.write_str("wrong ICMP checksum"),
        }
    }
}
