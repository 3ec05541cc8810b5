//! Why the kernel refuses to send: error numbers as statements about routes and filters.

use nix::errno::Errno;
use std::fmt::{self, Display};
use std::io;

/// What an error of `sendto` or `connect` says about the way to the target.
///
/// Routes that drop refuse with errors of their own (`fib_props` in the kernel's
/// `net/ipv4/fib_semantics.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No route leads to the target (`ENETUNREACH`).
    NoRoute,
    /// The route is of type unreachable, or a neighbour does not answer (`EHOSTUNREACH`).
    Unreachable,
    /// The route is a blackhole (`EINVAL`).
    Blackhole,
    /// The route is of type prohibit, or the target is a broadcast address (`EACCES`).
    Prohibited,
    /// A packet filter drops what the namespace sends (`EPERM`).
    Filtered,
    /// The packet is larger than may leave in one piece (`EMSGSIZE`).
    TooBig,
    /// Anything else; the source of the error has the number.
    Other,
}

impl Refusal {
    /// Reads the error number of `error`.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENETUNREACH) => Self::NoRoute,
            Some(Errno::EHOSTUNREACH) => Self::Unreachable,
            Some(Errno::EINVAL) => Self::Blackhole,
            Some(Errno::EACCES) => Self::Prohibited,
            Some(Errno::EPERM) => Self::Filtered,
            Some(Errno::EMSGSIZE) => Self::TooBig,
            _ => Self::Other,
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "no route leads there",
            Self::Unreachable => "the route is of type unreachable, or a neighbour is silent",
            Self::Blackhole => "the route is a blackhole",
            Self::Prohibited => "the route is of type prohibit, or it is a broadcast address",
            Self::Filtered => "a packet filter drops it on its way out",
            Self::TooBig => "it is too large to leave in one piece",
            Self::Other => "the kernel refuses",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Errno::ENETUNREACH, Refusal::NoRoute)]
    #[case(Errno::EHOSTUNREACH, Refusal::Unreachable)]
    #[case(Errno::EINVAL, Refusal::Blackhole)]
    #[case(Errno::EACCES, Refusal::Prohibited)]
    #[case(Errno::EPERM, Refusal::Filtered)]
    #[case(Errno::EMSGSIZE, Refusal::TooBig)]
    #[case(Errno::ENOBUFS, Refusal::Other)]
    fn an_error_number_has_one_meaning(#[case] errno: Errno, #[case] refusal: Refusal) {
        assert_eq!(Refusal::of(&io::Error::from(errno)), refusal);
    }

    #[test]
    fn an_error_without_number_is_other() {
        assert_eq!(Refusal::of(&io::Error::other("odd")), Refusal::Other);
    }
}
