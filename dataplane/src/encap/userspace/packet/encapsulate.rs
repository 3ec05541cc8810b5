//! From a frame that the node sent into the tunnel to outer packets.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::checksum::{Sum, crc32c};
use super::frame;
use super::ipv4::{self, HEADER, IPIP, Ipv4, SCTP};
use super::split::{self, Segments};
use super::transport::Transport;
use super::vnet::Vnet;
use crate::encap::userspace::drops::Drop;

/// Room for what goes before the payload: the outer header and a segment's own.
pub(crate) const HEADERS: usize = HEADER + split::HEADERS;

/// One outer packet, in two pieces.
pub(crate) struct Outer<'a> {
    /// The node that it goes to.
    pub to: Ipv4Addr,
    /// What comes first; the kernel completes the outer header.
    pub headers: &'a [u8],
    /// Where the rest lies in the frame.
    pub rest: Range<usize>,
}

/// Puts what is in `frame` (virtio header first) into packets from `source` and hands each to
/// `send`. `gateway` answers which node a destination is routed to.
pub(crate) fn encapsulate(
    frame: &mut [u8],
    source: Ipv4Addr,
    gateway: impl FnOnce(Ipv4Addr) -> Option<Ipv4Addr>,
    mut send: impl FnMut(Outer<'_>),
) -> Result<(), Drop> {
    let (vnet, packet) = frame::parse(frame).ok_or(Drop::SentMalformed)?;
    let vnet = Vnet::parse(vnet).map_err(|_| Drop::SentUnknownGso)?;
    let ip = Ipv4::parse(packet).ok_or(Drop::SentMalformed)?;
    let packet = &mut packet[..ip.total_len];
    if ip.ttl == 0 {
        return Err(Drop::TtlExpired);
    }
    if ip.protocol == IPIP && ip.source == source {
        return Err(Drop::Loop);
    }
    let to = gateway(ip.destination).ok_or(Drop::NoTunnelRoute)?;

    let mut headers = [0; HEADERS];
    match vnet.gso {
        Some((gso, size)) => {
            let segments = Segments::new(packet, ip, gso, size).ok_or(Drop::SentUnknownGso)?;
            for segment in segments {
                let inner = segment.headers();
                let end = HEADER + inner.len();
                headers[..HEADER].copy_from_slice(&ipv4::outer(&ip, segment.len(), source, to));
                headers[HEADER..end].copy_from_slice(inner);
                let rest = segment.payload.start + frame::PACKET_AT
                    ..segment.payload.end + frame::PACKET_AT;
                send(Outer {
                    to,
                    headers: &headers[..end],
                    rest,
                });
            }
        }
        None => {
            if let Some((start, offset)) = vnet.checksum {
                complete(packet, &ip, start, offset).ok_or(Drop::SentMalformed)?;
            }
            headers[..HEADER].copy_from_slice(&ipv4::outer(&ip, ip.total_len, source, to));
            send(Outer {
                to,
                headers: &headers[..HEADER],
                rest: frame::PACKET_AT..frame::PACKET_AT + ip.total_len,
            });
        }
    }
    Ok(())
}

/// Completes a partial checksum; `start` counts from the frame's Ethernet header. `None` when
/// the place is not in the packet.
pub(super) fn complete(packet: &mut [u8], ip: &Ipv4, start: u16, offset: u16) -> Option<()> {
    let start = usize::from(start).checked_sub(frame::ETHERNET)?;
    let covered = packet.get_mut(start..)?;
    let at = usize::from(offset);
    if ip.protocol == SCTP {
        // Left to hardware as well, which the virtio header does not tell apart.
        covered.get_mut(at..at + 4)?.fill(0);
        let checksum = crc32c(covered);
        covered.get_mut(at..at + 4)?.copy_from_slice(&checksum);
        return Some(());
    }
    let checksum = Sum::default().bytes(covered).checksum();
    let checksum = match Transport::of(ip) {
        Some(transport) => transport.on_the_wire(checksum),
        None => checksum,
    };
    covered.get_mut(at..at + 2)?.copy_from_slice(&checksum);
    Some(())
}
