//! From an outer packet to the inner one.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::checksum::Sum;
use super::encapsulate::complete;
use super::ipv4::{IPIP, Ipv4, SCTP};
use super::transport::Transport;
use super::vnet::{Gso, Vnet};
use super::{ecn, frame};
use crate::desired::Peers;
use crate::encap::userspace::drops::Drop;

/// Whose packets are taken.
pub(crate) struct Accept<'a> {
    /// The outer destination.
    pub node_address: Ipv4Addr,
    /// Outer sources.
    pub peers: &'a Peers,
}

/// An inner packet, fit to be handed to the node.
pub(crate) struct Inner {
    /// Where it lies in the frame.
    pub at: Range<usize>,
    pub ip: Ipv4,
    /// What is left to be done about it.
    pub vnet: Vnet,
}

/// Takes the inner packet out of a frame from the underlay (virtio header first), and carries
/// congestion marks inward.
pub(crate) fn decapsulate(frame: &mut [u8], accept: &Accept<'_>) -> Result<Inner, Drop> {
    let (vnet, packet) = frame::parse(frame).ok_or(Drop::ReceivedMalformed)?;
    let vnet = Vnet::parse(vnet).map_err(|_| Drop::ReceivedUnknownGso)?;
    // The packet socket comes before the kernel's own checks of the header.
    let outer = Ipv4::parse(packet).ok_or(Drop::ReceivedMalformed)?;
    let sum = Sum::default().bytes(&packet[..outer.header_len]);
    if outer.protocol != IPIP || outer.fragment || sum.checksum() != [0, 0] {
        return Err(Drop::ReceivedMalformed);
    }
    if outer.destination != accept.node_address {
        return Err(Drop::NotForUs);
    }
    if !accept.peers.accept(outer.source) {
        return Err(Drop::UnknownSender);
    }
    let inner = &mut packet[outer.header_len..outer.total_len];
    let mut ip = Ipv4::parse(inner).ok_or(Drop::ReceivedMalformed)?;
    let inner = &mut inner[..ip.total_len];
    ecn::carry_inward(outer.tos, inner, ip.header_len).map_err(|_| Drop::EcnInvalid)?;
    ip.tos = inner[1];
    let vnet = hand_on(inner, &ip, vnet, outer.header_len)?;
    let start = frame::PACKET_AT + outer.header_len;
    Ok(Inner {
        at: start..start + ip.total_len,
        ip,
        vnet,
    })
}

/// The virtio header for an inner packet whose outer one, with a header of `outer_len` bytes,
/// had `vnet`. A sender on this host leaves checksums to be made, and super-packets to be cut;
/// they are left so to whoever comes next.
fn hand_on(packet: &mut [u8], ip: &Ipv4, vnet: Vnet, outer_len: usize) -> Result<Vnet, Drop> {
    let checksum = match vnet.checksum {
        None => None,
        Some((start, offset)) => {
            let start = usize::from(start)
                .checked_sub(outer_len)
                .filter(|start| *start >= frame::ETHERNET + ip.header_len);
            let start = start.ok_or(Drop::ReceivedMalformed)?;
            if start + usize::from(offset) + 2 > frame::ETHERNET + packet.len() {
                return Err(Drop::ReceivedMalformed);
            }
            if ip.protocol == SCTP {
                // To the next one the virtio header would mean the Internet checksum.
                complete(packet, ip, start as u16, offset).ok_or(Drop::ReceivedMalformed)?;
                None
            } else {
                Some((start as u16, offset))
            }
        }
    };
    let Some((gso, size)) = vnet.gso else {
        return Ok(Vnet {
            checksum,
            ..Vnet::default()
        });
    };
    let transport = Transport::of(ip)
        .filter(|transport| (gso == Gso::Tcp) == (*transport == Transport::Tcp))
        .ok_or(Drop::ReceivedUnknownGso)?;
    let segment = &packet[ip.header_len..];
    let header_len = transport
        .header_len(segment)
        .filter(|_| size > 0)
        .ok_or(Drop::ReceivedUnknownGso)?;
    let at = (
        (frame::ETHERNET + ip.header_len) as u16,
        transport.checksum_at() as u16,
    );
    match checksum {
        Some(checksum) if checksum == at => {}
        None if transport.is_valid(ip, segment) => {
            // Each segment will need a checksum of its own, made from the pseudo-header's sum.
            let partial = transport.pseudo(ip, segment.len()).partial();
            let at = ip.header_len + transport.checksum_at();
            packet[at..at + 2].copy_from_slice(&partial);
        }
        // To cut it would give wrong data right checksums.
        _ => return Err(Drop::ReceivedUnknownGso),
    }
    Ok(Vnet {
        checksum: Some(at),
        gso: Some((gso, size)),
        header_len: at.0 + header_len as u16,
        ecn: vnet.ecn,
    })
}
