//! Kernel filters: which packets a capture wants, compiled to classic BPF for `SO_ATTACH_FILTER`.
//!
//! ```
//! # use podlab::capture::Filter;
//! # use std::net::Ipv4Addr;
//! let (a, b) = (Ipv4Addr::new(10, 12, 22, 2), Ipv4Addr::new(10, 12, 22, 3));
//! let ipip = Filter::protocol(4).and(Filter::between(a, b));
//! let web = Filter::port(8080).or(Filter::inner(Filter::port(8080)));
//! let filter = ipip.and(web).and(!Filter::port(6443));
//! # assert!(filter.to_string().contains("inner (port 8080)"));
//! ```
//!
//! Terms look at the network header (`SKF_NET_OFF`) and at the protocol that the kernel found for
//! the packet (`SKF_AD_PROTOCOL`), never at link headers, so one filter works on Ethernet devices
//! and on those without link header. A term about IPv4 is false for everything else. A packet that
//! is too short for a term is dropped as a whole, as with libpcap's filters.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Not;

use nix::libc;

use super::program::Program;

/// Which packets to capture. Build it from terms, join them with [`and`](Filter::and),
/// [`or`](Filter::or) and `!`. Prints in tcpdump's filter language, `inner (…)` excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Term);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    Everything,
    EtherType(u16),
    Protocol(u8),
    Source(Ipv4Addr),
    Destination(Ipv4Addr),
    Port(u16),
    Inner(Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    Not(Box<Term>),
}

impl Filter {
    /// Every packet.
    #[must_use]
    pub fn everything() -> Filter {
        Filter(Term::Everything)
    }

    /// IPv4 packets.
    #[must_use]
    pub fn ipv4() -> Filter {
        Filter(Term::EtherType(libc::ETH_P_IP as u16))
    }

    /// ARP messages.
    #[must_use]
    pub fn arp() -> Filter {
        Filter(Term::EtherType(libc::ETH_P_ARP as u16))
    }

    /// IPv4 packets with this protocol number: 1 is ICMP, 4 IPIP, 6 TCP, 17 UDP.
    #[must_use]
    pub fn protocol(number: u8) -> Filter {
        Filter(Term::Protocol(number))
    }

    /// IPv4 packets from this address.
    #[must_use]
    pub fn source(address: Ipv4Addr) -> Filter {
        Filter(Term::Source(address))
    }

    /// IPv4 packets to this address.
    #[must_use]
    pub fn destination(address: Ipv4Addr) -> Filter {
        Filter(Term::Destination(address))
    }

    /// IPv4 packets from or to this address.
    #[must_use]
    pub fn host(address: Ipv4Addr) -> Filter {
        Filter::source(address).or(Filter::destination(address))
    }

    /// IPv4 packets from `a` to `b` or from `b` to `a`.
    #[must_use]
    pub fn between(a: Ipv4Addr, b: Ipv4Addr) -> Filter {
        let there = Filter::source(a).and(Filter::destination(b));
        let back = Filter::source(b).and(Filter::destination(a));
        there.or(back)
    }

    /// TCP and UDP packets over IPv4 from or to this port. Fragments without ports are not.
    #[must_use]
    pub fn port(number: u16) -> Filter {
        Filter(Term::Port(number))
    }

    /// IPIP packets whose inner packet passes `filter`; `inner(inner(…))` looks one level deeper.
    #[must_use]
    pub fn inner(filter: Filter) -> Filter {
        Filter(Term::Inner(Box::new(filter.0)))
    }

    /// Packets that pass both filters.
    #[must_use]
    pub fn and(self, other: Filter) -> Filter {
        Filter(Term::And(Box::new(self.0), Box::new(other.0)))
    }

    /// Packets that pass one of the filters, or both.
    #[must_use]
    pub fn or(self, other: Filter) -> Filter {
        Filter(Term::Or(Box::new(self.0), Box::new(other.0)))
    }

    /// The classic BPF program. The kernel takes at most 4096 instructions, some 200 terms.
    pub(super) fn program(&self) -> Program {
        Program::compile(&self.0)
    }
}

impl Not for Filter {
    type Output = Filter;

    fn not(self) -> Filter {
        Filter(Term::Not(Box::new(self.0)))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Everything => f.write_str("everything"),
            Term::EtherType(kind) if i32::from(*kind) == libc::ETH_P_IP => f.write_str("ip"),
            Term::EtherType(_) => f.write_str("arp"),
            Term::Protocol(number) => write!(f, "ip proto {number}"),
            Term::Source(address) => write!(f, "src host {address}"),
            Term::Destination(address) => write!(f, "dst host {address}"),
            Term::Port(number) => write!(f, "port {number}"),
            Term::Inner(term) => write!(f, "inner ({term})"),
            Term::And(a, b) => write!(f, "({a} and {b})"),
            Term::Or(a, b) => write!(f, "({a} or {b})"),
            Term::Not(term) => write!(f, "not ({term})"),
        }
    }
}

#[cfg(test)]
mod tests;
