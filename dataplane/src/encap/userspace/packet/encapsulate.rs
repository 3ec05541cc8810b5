//! From a frame that the node sent into the tunnel to outer packets.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::checksum::{Sum, crc32c};
use super::connection::TcpPacket;
use super::frame;
use super::ipv4::{self, HEADER, IPIP, Ipv4, SCTP};
use super::split::{self, Checksums, Segments};
use super::transport::Transport;
use super::vnet::Vnet;
use crate::encap::userspace::drops::Drop;
use crate::mac::Mac;

/// Room for what goes before the payload: the outer header and a segment's own.
pub(crate) const HEADERS: usize = HEADER + split::HEADERS;

/// One outer packet, in two pieces.
pub(crate) struct Outer<'a> {
    /// The node that it goes to.
    pub to: Ipv4Addr,
    /// What comes first. Where there is no `join`, the outer checksum and identification are left
    /// to the raw socket.
    pub headers: &'a [u8],
    /// Where the rest lies in the frame.
    pub rest: Range<usize>,
    /// It goes through the joiner.
    pub join: Option<Join>,
}

/// What a packet needs on its way through the joiner.
pub(crate) struct Join {
    /// What is left to be done about its checksum.
    pub vnet: Vnet,
    /// The link-layer address of the next hop.
    pub mac: Mac,
}

/// Where packets go.
pub(crate) trait Ways {
    /// The node that a destination is routed to.
    fn gateway(&mut self, destination: Ipv4Addr) -> Option<Ipv4Addr>;

    /// Whether `packet`, which leads to the node `to`, goes through the joiner: then the
    /// link-layer address of the next hop. `size` is the payload in bytes of each of its segments,
    /// where it is a super-packet. Asked of every TCP packet that may not be fragmented.
    fn join(&mut self, to: Ipv4Addr, packet: &TcpPacket, size: Option<u16>) -> Option<Mac>;
}

/// Puts what is in `frame` (virtio header first) into packets from `source` and hands each to
/// `send`.
pub(crate) fn encapsulate(
    frame: &mut [u8],
    source: Ipv4Addr,
    ways: &mut impl Ways,
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
    let to = ways.gateway(ip.destination).ok_or(Drop::NoTunnelRoute)?;
    // An identification, which fragments need, is the raw socket's to give.
    let mac = TcpPacket::of(packet, &ip)
        .filter(|_| ip.dont_fragment)
        .and_then(|tcp| ways.join(to, &tcp, vnet.gso.map(|(_, size)| size)));
    let checksum_at = (
        (frame::ETHERNET + HEADER + ip.header_len) as u16,
        Transport::Tcp.checksum_at() as u16,
    );

    let mut headers = [0; HEADERS];
    let mut push = |inner_len: usize, inner: &[u8], rest: Range<usize>, left: bool| {
        let end = HEADER + inner.len();
        headers[..HEADER].copy_from_slice(&ipv4::outer(&ip, inner_len, source, to));
        headers[HEADER..end].copy_from_slice(inner);
        if mac.is_some() {
            ipv4::set_checksum(&mut headers[..HEADER]);
        }
        let vnet = Vnet {
            checksum: left.then_some(checksum_at),
            ..Vnet::default()
        };
        send(Outer {
            to,
            headers: &headers[..end],
            rest: rest.start + frame::PACKET_AT..rest.end + frame::PACKET_AT,
            join: mac.map(|mac| Join { vnet, mac }),
        });
    };
    match vnet.gso {
        Some(gso) => {
            let checksums = match mac {
                Some(_) => Checksums::Left,
                None => Checksums::Finished,
            };
            let segments = Segments::new(packet, ip, gso, checksums).ok_or(Drop::SentUnknownGso)?;
            for segment in segments {
                let (length, payload) = (segment.len(), segment.payload.clone());
                push(length, segment.headers(), payload, mac.is_some());
            }
        }
        None => {
            if let Some((start, offset)) = vnet.checksum {
                complete(packet, &ip, start, offset).ok_or(Drop::SentMalformed)?;
            }
            push(ip.total_len, &[], 0..ip.total_len, false);
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
