//! From an outer packet to the inner one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::Range;

use super::ipv4::{IPIP, Ipv4};
use super::transport::{Checksum, Transport};
use super::vnet::{Gso, Vnet};
use super::{ecn, frame};
use crate::encap::userspace::drops::Drop;

/// Whose packets are taken.
pub(crate) struct Accept<'a> {
    /// The outer destination.
    pub node_address: Ipv4Addr,
    /// Outer sources.
    pub peers: &'a BTreeSet<Ipv4Addr>,
}

/// An inner packet, fit to be handed to the node.
pub(crate) struct Inner {
    /// Where it lies in the outer packet.
    pub at: Range<usize>,
    pub ip: Ipv4,
}

/// Checks the outer packet at the start of `packet`, and carries congestion marks inward.
pub(crate) fn decapsulate(packet: &mut [u8], accept: &Accept<'_>) -> Result<Inner, Drop> {
    let outer = Ipv4::parse(packet).ok_or(Drop::ReceivedMalformed)?;
    if outer.protocol != IPIP || outer.fragment {
        return Err(Drop::ReceivedMalformed);
    }
    if outer.destination != accept.node_address {
        return Err(Drop::NotForUs);
    }
    if !accept.peers.contains(&outer.source) {
        return Err(Drop::UnknownSender);
    }
    let inner = &mut packet[outer.header_len..outer.total_len];
    let mut ip = Ipv4::parse(inner).ok_or(Drop::ReceivedMalformed)?;
    ecn::carry_inward(outer.tos, inner, ip.header_len).map_err(|_| Drop::EcnInvalid)?;
    ip.tos = inner[1];
    Ok(Inner {
        at: outer.header_len..outer.header_len + ip.total_len,
        ip,
    })
}

/// The virtio header for an inner packet that is handed on as it is, when `vnet` was that of
/// its outer packet's frame. Takes into account what the sender left to be done, and leaves it
/// to whoever comes next.
///
/// # Errors
/// [`Drop::ReceivedUnknownGso`] for a super-packet whose segments could not be checksummed.
pub(crate) fn hand_on(packet: &mut [u8], ip: &Ipv4, vnet: Option<&Vnet>) -> Result<Vnet, Drop> {
    let gso = vnet.and_then(|vnet| vnet.gso);
    let (Some(transport), segment) = (Transport::of(ip), &packet[ip.header_len..]) else {
        return match gso {
            None => Ok(Vnet::default()),
            Some(_) => Err(Drop::ReceivedUnknownGso),
        };
    };
    let state = transport.checksum(ip, segment);
    let start = frame::ETHERNET + ip.header_len;
    let partial = Some((start as u16, transport.checksum_at() as u16));
    let Some((kind, _)) = gso else {
        return Ok(Vnet {
            checksum: partial.filter(|_| state == Checksum::Partial),
            ..Vnet::default()
        });
    };
    let header_len = transport
        .header_len(segment)
        .filter(|_| (kind == Gso::Tcp) == (transport == Transport::Tcp))
        .ok_or(Drop::ReceivedUnknownGso)?;
    match state {
        Checksum::Partial => {}
        // Each segment will need one of its own, which is made from the pseudo-header's sum.
        Checksum::Valid => {
            let length = segment.len();
            let partial = transport.pseudo(ip, length).partial();
            let at = ip.header_len + transport.checksum_at();
            packet[at..at + 2].copy_from_slice(&partial);
        }
        // To cut it would give wrong data right checksums.
        Checksum::Wrong => return Err(Drop::ReceivedUnknownGso),
    }
    Ok(Vnet {
        checksum: partial,
        gso,
        header_len: (start + header_len) as u16,
        ecn: vnet.is_some_and(|vnet| vnet.ecn),
    })
}
