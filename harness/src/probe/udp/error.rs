//! What can go wrong with a UDP probe, in types.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::patience::PatienceError;
use crate::probe::icmp::IcmpError;
use crate::probe::refusal::Refusal;

/// Why a UDP probe has no answer to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UdpError {
    /// The socket could not be made.
    #[error("open a UDP socket: {source}")]
    Open {
        /// The kernel's error.
        source: io::Error,
    },
    /// An option of the probe was not accepted.
    #[error("udp {target}: set {option}: {source}")]
    Configure {
        /// Where the probe was to go.
        target: SocketAddrV4,
        /// Which option.
        option: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The local kernel did not send it.
    #[error(
        "udp {target}: not sent: {refusal} ({source})\n\
         hint: `ip route get {}` in the same namespace shows the route", target.ip()
    )]
    NotSent {
        /// Where the probe was to go.
        target: SocketAddrV4,
        /// What the error says about the way to the target.
        refusal: Refusal,
        /// The kernel's error.
        source: io::Error,
    },
    /// A router, or the target itself, answered with an ICMP error.
    #[error("udp {target}: {router} says {error}")]
    Icmp {
        /// Where the probe went.
        target: SocketAddrV4,
        /// Who sent the error; an address of our own when the neighbour did not answer ARP.
        router: Ipv4Addr,
        /// What it said.
        error: IcmpError,
    },
    /// One of the two payloads is not what was sent.
    #[error("udp {target}: the payload came back, or had arrived, changed")]
    Corrupted {
        /// Where the probe went.
        target: SocketAddrV4,
    },
    /// Nothing came back in time.
    #[error("udp {target}: no answer within {timeout:?}")]
    TimedOut {
        /// Where the probe went.
        target: SocketAddrV4,
        /// The time limit, patience included.
        timeout: Duration,
    },
    /// The socket could not be read.
    #[error("udp {target}: receive: {source}")]
    Receive {
        /// Where the probe went.
        target: SocketAddrV4,
        /// The kernel's error.
        source: io::Error,
    },
    /// The patience factor is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
}
