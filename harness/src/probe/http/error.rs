//! What can go wrong with an HTTP request, in types.

use crate::patience::PatienceError;
use crate::probe::refusal::Refusal;
use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// How far a request had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The TCP connection was not there yet.
    Connecting,
    /// Connected; the head of the answer had not come.
    Waiting,
    /// The head had come, the body was not complete.
    Reading,
}

impl Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Waiting => "waiting for the answer",
            Self::Reading => "reading the body",
        })
    }
}

/// Why there is no answer to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The socket could not be made.
    #[error("open a TCP socket: {source}")]
    Open {
        /// The kernel's error.
        source: io::Error,
    },
    /// The source address asked for is none of the namespace.
    #[error(
        "http: cannot connect from {address}: {source}\n\
         hint: `ip -4 address` in the same namespace lists the addresses to choose from"
    )]
    SourceAddress {
        /// The source address that was asked for.
        address: Ipv4Addr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The path cannot be asked for.
    #[error(
        "http: {path:?} is no path\nhint: it starts with `/` and has spaces and the like escaped"
    )]
    BadPath {
        /// What was given.
        path: String,
    },
    /// The target answered the SYN with a RST.
    #[error("http {target}: connection refused while connecting\nhint: nothing listens there")]
    Refused {
        /// Where the connection was to go.
        target: SocketAddrV4,
    },
    /// The kernel, or an ICMP error from on the way, says that there is no way.
    #[error(
        "http {target}: no way there while connecting: {refusal} ({source})\n\
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
    #[error("http {target}: timed out after {limit:?} while {phase}")]
    TimedOut {
        /// The server.
        target: SocketAddrV4,
        /// How far the request had come.
        phase: Phase,
        /// The time limit, patience included.
        limit: Duration,
    },
    /// The server, or something on the way, reset the connection.
    #[error("http {target}: connection reset while {phase}")]
    Reset {
        /// The server.
        target: SocketAddrV4,
        /// How far the request had come.
        phase: Phase,
    },
    /// The server closed the connection before its answer was complete.
    #[error("http {target}: connection closed while {phase}")]
    Closed {
        /// The server.
        target: SocketAddrV4,
        /// How far the request had come.
        phase: Phase,
    },
    /// The kernel gave the connection up.
    #[error("http {target}: connection lost while {phase}: {source}")]
    Lost {
        /// The server.
        target: SocketAddrV4,
        /// How far the request had come.
        phase: Phase,
        /// The kernel's error, within.
        source: hyper::Error,
    },
    /// What came is no HTTP/1 answer.
    #[error("http {target}: bad answer while {phase}: {source}")]
    BadAnswer {
        /// The server.
        target: SocketAddrV4,
        /// How far the request had come.
        phase: Phase,
        /// What the parser says.
        source: hyper::Error,
    },
    /// The patience factor is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
}

impl HttpError {
    /// Sorts an error of `connect`.
    pub(super) fn connecting(target: SocketAddrV4, source: io::Error) -> Self {
        let phase = Phase::Connecting;
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { target },
            io::ErrorKind::ConnectionReset => Self::Reset { target, phase },
            _ => Self::Unreachable {
                target,
                refusal: Refusal::of(&source),
                source,
            },
        }
    }

    /// Sorts an error of the exchange on an established connection.
    pub(super) fn exchanging(target: SocketAddrV4, phase: Phase, source: hyper::Error) -> Self {
        let cause = io_error(&source);
        match cause.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Self::Reset { target, phase }
            }
            Some(io::ErrorKind::UnexpectedEof) => Self::Closed { target, phase },
            _ if source.is_incomplete_message() => Self::Closed { target, phase },
            // With an error number it comes from the kernel, else from hyper.
            _ if cause.is_some_and(|error| error.raw_os_error().is_some()) => Self::Lost {
                target,
                phase,
                source,
            },
            _ => Self::BadAnswer {
                target,
                phase,
                source,
            },
        }
    }
}

/// The I/O error at the bottom of a hyper error.
fn io_error(error: &hyper::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}
