//! What a server saw of a probe: proof of what NAT and routers did on the way.

use std::fmt::{self, Display};
use std::net::{Ipv4Addr, SocketAddrV4};

/// The sender of a probe as the server saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The source address on arrival.
    pub source: Ipv4Addr,
    /// The source port on arrival; 0 for ICMP, which has none.
    pub port: u16,
    /// The TTL on arrival; for TCP that of the SYN. `None` when the kernel did not keep it.
    pub ttl: Option<u8>,
}

impl Seen {
    pub(crate) fn new(source: SocketAddrV4, ttl: Option<u8>) -> Self {
        Self {
            source: *source.ip(),
            port: source.port(),
            ttl,
        }
    }
}

/// `192.168.1.12:40312 ttl=62`
impl Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{}", self.source)?,
            port => write!(f, "{}:{port}", self.source)?,
        }
        match self.ttl {
            Some(ttl) => write!(f, " ttl={ttl}"),
            None => Ok(()),
        }
    }
}
