//! How probes fail, in one word for all protocols.

use std::fmt::{self, Display};

use serde::Serialize;

use super::http::HttpError;
use super::icmp::{IcmpError, PingError};
use super::refusal::Refusal;
use super::tcp::TcpError;
use super::udp::UdpError;

/// How a probe fails: what its sender is told, whatever the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Failure {
    /// The target says that nobody listens: a RST to the SYN, or ICMP "port unreachable".
    Refused,
    /// Nothing came back in time.
    TimedOut,
    /// The local kernel or a router says that there is no way: no route, an unreachable or
    /// blackhole route, a silent neighbour, an ICMP error.
    Unreachable,
    /// Somebody forbids it: a local packet filter, a prohibit route, or a router that says
    /// "administratively prohibited".
    Prohibited,
    /// The packet is larger than a link on the way takes and may not be cut: refused by the local
    /// kernel or by a router's "fragmentation needed".
    TooBig,
    /// There was a way, and what came back is not what should have: a connection that was reset
    /// or closed midway, a corrupted reply.
    Broken,
    /// The probe itself could not be made; it says nothing about the network.
    NoProbe,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
            Self::Unreachable => "no way there",
            Self::Prohibited => "prohibited",
            Self::TooBig => "too big",
            Self::Broken => "broken",
            Self::NoProbe => "no probe",
        })
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoRoute | Refusal::Unreachable | Refusal::Blackhole => Self::Unreachable,
            Refusal::Prohibited | Refusal::Filtered => Self::Prohibited,
            Refusal::TooBig => Self::TooBig,
            Refusal::Other => Self::Broken,
        }
    }
}

impl From<IcmpError> for Failure {
    fn from(error: IcmpError) -> Self {
        match error {
            // Whoever says that a port or protocol has nobody is the target itself.
            IcmpError::Unreachable { code: 2 | 3 } => Self::Refused,
            IcmpError::Unreachable { code: 9 | 10 | 13 } => Self::Prohibited,
            IcmpError::FragmentationNeeded { .. } => Self::TooBig,
            _ => Self::Unreachable,
        }
    }
}

impl From<&PingError> for Failure {
    fn from(error: &PingError) -> Self {
        match error {
            PingError::NotSent { refusal, .. } => (*refusal).into(),
            PingError::Icmp { error, .. } => (*error).into(),
            PingError::Corrupted { .. } | PingError::Receive { .. } => Self::Broken,
            PingError::TimedOut { .. } => Self::TimedOut,
            PingError::Open { .. }
            | PingError::Configure { .. }
            | PingError::SourceAddress { .. }
            | PingError::Patience(_) => Self::NoProbe,
        }
    }
}

impl From<&UdpError> for Failure {
    fn from(error: &UdpError) -> Self {
        match error {
            UdpError::NotSent { refusal, .. } => (*refusal).into(),
            UdpError::Icmp { error, .. } => (*error).into(),
            UdpError::Corrupted { .. } | UdpError::Receive { .. } => Self::Broken,
            UdpError::TimedOut { .. } => Self::TimedOut,
            UdpError::Open { .. } | UdpError::Configure { .. } | UdpError::Patience(_) => {
                Self::NoProbe
            }
        }
    }
}

impl From<&TcpError> for Failure {
    fn from(error: &TcpError) -> Self {
        match error {
            TcpError::Refused { .. } => Self::Refused,
            TcpError::Unreachable { refusal, .. } => (*refusal).into(),
            TcpError::TimedOut { .. } => Self::TimedOut,
            TcpError::Broken { .. } | TcpError::Corrupted { .. } => Self::Broken,
            TcpError::Open { .. } | TcpError::Patience(_) => Self::NoProbe,
        }
    }
}

impl From<&HttpError> for Failure {
    fn from(error: &HttpError) -> Self {
        match error {
            HttpError::Refused { .. } => Self::Refused,
            HttpError::Unreachable { refusal, .. } => (*refusal).into(),
            HttpError::TimedOut { .. } => Self::TimedOut,
            HttpError::Reset { .. }
            | HttpError::Closed { .. }
            | HttpError::Lost { .. }
            | HttpError::BadAnswer { .. } => Self::Broken,
            HttpError::Open { .. }
            | HttpError::SourceAddress { .. }
            | HttpError::BadPath { .. }
            | HttpError::Patience(_) => Self::NoProbe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(IcmpError::Unreachable { code: 3 }, Failure::Refused)]
    #[case(IcmpError::Unreachable { code: 1 }, Failure::Unreachable)]
    #[case(IcmpError::Unreachable { code: 13 }, Failure::Prohibited)]
    #[case(IcmpError::FragmentationNeeded { mtu: 1480 }, Failure::TooBig)]
    #[case(IcmpError::TimeExceeded { code: 0 }, Failure::Unreachable)]
    fn an_icmp_error_has_one_meaning(#[case] error: IcmpError, #[case] failure: Failure) {
        assert_eq!(Failure::from(error), failure);
    }
}
