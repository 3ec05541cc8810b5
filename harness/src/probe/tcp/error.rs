//! What can go wrong with a TCP probe, in types.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use crate::patience::PatienceError;
use crate::probe::http::Phase;
use crate::probe::refusal::Refusal;

/// Why a TCP probe has no answer to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TcpError {
    /// The socket could not be made.
    #[error("open a TCP socket: {source}")]
    Open {
        /// The kernel's error.
        source: io::Error,
    },
    /// The target answered the SYN with a RST.
    #[error("tcp {target}: connection refused\nhint: nothing listens there")]
    Refused {
        /// Where the connection was to go.
        target: SocketAddrV4,
    },
    /// The kernel, or an ICMP error from on the way, says that there is no way.
    #[error(
        "tcp {target}: no way there: {refusal} ({source})\n\
         hint: `ip route get {}` in the same namespace shows the route", target.ip()
    )]
    Unreachable {
        /// Where the connection was to go.
        target: SocketAddrV4,
        /// What the error says about the way to the target.
        refusal: Refusal,
        /// The kernel's error.
        source: io::Error,
    },
    /// The time was up.
    #[error("tcp {target}: timed out after {limit:?} while {phase}")]
    TimedOut {
        /// The server.
        target: SocketAddrV4,
        /// How far the probe had come.
        phase: Phase,
        /// The time limit, patience included.
        limit: Duration,
    },
    /// The connection was reset, closed or lost.
    #[error("tcp {target}: connection broken while {phase}: {source}")]
    Broken {
        /// The server.
        target: SocketAddrV4,
        /// How far the probe had come.
        phase: Phase,
        /// The kernel's error.
        source: io::Error,
    },
    /// Bytes arrived, there or here, that are not those that were sent.
    #[error("tcp {target}: the payload came back, or had arrived, changed")]
    Corrupted {
        /// The server.
        target: SocketAddrV4,
    },
    /// The patience factor is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
}

impl TcpError {
    /// Sorts an error of `connect`.
    pub(super) fn connecting(target: SocketAddrV4, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { target },
            io::ErrorKind::ConnectionReset => Self::Broken {
                target,
                phase: Phase::Connecting,
                source,
            },
            _ => Self::Unreachable {
                target,
                refusal: Refusal::of(&source),
                source,
            },
        }
    }
}
