//! What is asked: a probe, from one peer to another.

use std::fmt::{self, Display};

use serde::Serialize;

use super::Peer;
use crate::event::Protocol;

/// One way to ask: a protocol and a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Probe {
    /// By which protocol.
    pub protocol: Protocol,
    /// Bytes of payload. ICMP and UDP: in each direction, the IP packet is 28 bytes longer. TCP: in
    /// each direction. HTTP: of the answer's body.
    pub size: u32,
    /// Whether the don't-fragment bit is set: ICMP and UDP only.
    pub dont_fragment: bool,
}

impl Probe {
    /// A probe of any protocol.
    pub fn new(protocol: Protocol, size: u32) -> Self {
        Self {
            protocol,
            size,
            dont_fragment: false,
        }
    }

    /// An echo request.
    pub fn icmp(size: u32) -> Self {
        Self::new(Protocol::Icmp, size)
    }

    /// A datagram that is sent back. It has at least 20 bytes.
    pub fn udp(size: u32) -> Self {
        Self::new(Protocol::Udp, size)
    }

    /// A connection on which so many bytes go there and back.
    pub fn tcp(size: u32) -> Self {
        Self::new(Protocol::Tcp, size)
    }

    /// A GET with a body of so many bytes.
    pub fn http(size: u32) -> Self {
        Self::new(Protocol::Http, size)
    }

    /// With the don't-fragment bit; what the kernel has learnt of the path's MTU is passed over, so
    /// that the routers answer.
    #[must_use]
    pub fn dont_fragment(mut self) -> Self {
        self.dont_fragment = true;
        self
    }

    /// The same without the bit.
    pub(super) fn fragmented(mut self) -> Self {
        self.dont_fragment = false;
        self
    }
}

/// `icmp 1412 df`
impl Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Icmp => "icmp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Http => "http",
            Protocol::Trace => "trace",
        };
        let bit = if self.dont_fragment { " df" } else { "" };
        write!(f, "{protocol} {}{bit}", self.size)
    }
}

/// One probe between two peers, as rules of expectation see it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Question<'a> {
    /// Who asks.
    pub from: &'a Peer,
    /// Who is asked.
    pub to: &'a Peer,
    /// How.
    pub probe: Probe,
}

impl Question<'_> {
    /// Whether it is asked from and to peers of these names.
    pub fn is_between(&self, from: &str, to: &str) -> bool {
        self.from.name() == from && self.to.name() == to
    }
}
