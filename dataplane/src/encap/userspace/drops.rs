//! Packets that were not carried, counted by reason.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;

/// Why a packet was not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drop {
    // Outward.
    /// A frame without an IPv4 packet, or one whose lengths are wrong.
    SentMalformed,
    /// A super-packet of a kind that cannot be cut here.
    SentUnknownGso,
    /// Time to live 0.
    TtlExpired,
    /// No route through the tunnel with a gateway.
    NoTunnelRoute,
    /// Our own outer packet came back: the way to the other node leads through the tunnel.
    Loop,
    /// With the outer header longer than the underlay's MTU.
    TooBig,
    /// Refused by a firewall rule of this node.
    Refused,
    /// No way to the other node.
    NoUnderlayRoute,
    /// Anything else that the kernel said on sending.
    SendFailed,
    // Inward.
    /// The outer or the inner header is wrong.
    ReceivedMalformed,
    /// Addressed to another address than the node's.
    NotForUs,
    /// From an address that is no peer.
    UnknownSender,
    /// Congestion marked on a transport without ECN (RFC 6040).
    EcnInvalid,
    /// A super-packet that cannot be handed on as one.
    ReceivedUnknownGso,
    /// The kernel did not take the inner packet.
    DeliverFailed,
    // Both.
    /// Longer than any IPv4 packet.
    Truncated,
    /// The kernel had no memory, or no room in a queue.
    QueueFull,
}

const REASONS: [(Drop, &str); 17] = [
    (Drop::SentMalformed, "sent_malformed"),
    (Drop::SentUnknownGso, "sent_unknown_gso"),
    (Drop::TtlExpired, "ttl_expired"),
    (Drop::NoTunnelRoute, "no_tunnel_route"),
    (Drop::Loop, "loop"),
    (Drop::TooBig, "too_big"),
    (Drop::Refused, "refused"),
    (Drop::NoUnderlayRoute, "no_underlay_route"),
    (Drop::SendFailed, "send_failed"),
    (Drop::ReceivedMalformed, "received_malformed"),
    (Drop::NotForUs, "not_for_us"),
    (Drop::UnknownSender, "unknown_sender"),
    (Drop::EcnInvalid, "ecn_invalid"),
    (Drop::ReceivedUnknownGso, "received_unknown_gso"),
    (Drop::DeliverFailed, "deliver_failed"),
    (Drop::Truncated, "truncated"),
    (Drop::QueueFull, "queue_full"),
];

impl Drop {
    /// What an error on sending an outer packet means.
    pub(super) fn on_sending(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Self::TooBig,
            // What a netfilter verdict "drop" in OUTPUT looks like to the sender.
            Some(libc::EPERM) => Self::Refused,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EINVAL) => {
                Self::NoUnderlayRoute
            }
            Some(libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => Self::QueueFull,
            _ => Self::SendFailed,
        }
    }

    /// What an error on handing an inner packet to the node means.
    pub(super) fn on_delivering(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Self::TooBig,
            Some(libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => Self::QueueFull,
            _ => Self::DeliverFailed,
        }
    }
}

/// One counter for each reason, shared between threads.
#[derive(Debug, Default)]
pub(crate) struct Drops([AtomicU64; REASONS.len()]);

impl Drops {
    pub(super) fn count(&self, reason: Drop) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Every reason's name and count.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REASONS
            .iter()
            .map(|(reason, name)| (*name, self.0[*reason as usize].load(Ordering::Relaxed)))
    }
}

/// Those that happened: `no_tunnel_route 3, loop 1`; empty when none did.
impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened = self.snapshot().filter(|(_, count)| *count > 0);
        for (i, (name, count)) in happened.enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{name} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        for (i, (reason, _)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
        let drops = Drops::default();
        assert_eq!(drops.to_string(), "");
        drops.count(Drop::Loop);
        drops.count(Drop::QueueFull);
        drops.count(Drop::Loop);
        assert_eq!(drops.to_string(), "loop 2, queue_full 1");
    }
}
