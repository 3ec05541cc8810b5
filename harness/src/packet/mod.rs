//! Decoded packets: what a tap saw, as a stack of typed headers.
//!
//! [`Packet::decode`] walks a frame from its link layer inwards and keeps every header that it
//! understands: Ethernet, VLAN, ARP, IPv4 inside IPv4 to any depth, ICMP, TCP and UDP. It never
//! fails: a cut or hostile packet keeps the headers before the damage, and [`Packet::stop`] says
//! why the walk ended there.
//!
//! ```
//! # use podlab::packet::{LinkType, Packet};
//! # let frame = {
//! #     let builder = etherparse::PacketBuilder::ipv4([192, 168, 1, 12], [192, 168, 2, 6], 64)
//! #         .tcp(46282, 8080, 2194532999, 28000).syn();
//! #     let mut inner = Vec::new();
//! #     builder.write(&mut inner, &[]).unwrap();
//! #     let outer = etherparse::Ipv4Header::new(
//! #         inner.len() as u16, 64, etherparse::IpNumber::IPV4, [10, 12, 22, 2], [10, 12, 22, 3]).unwrap();
//! #     let mut frame = Vec::new();
//! #     outer.write(&mut frame).unwrap();
//! #     frame.extend(inner);
//! #     frame
//! # };
//! let packet = Packet::decode(LinkType::Ip, frame);
//! assert_eq!(packet.ipip_depth(), 1);
//! assert!(packet.is_between("192.168.1.12".parse().unwrap(), "192.168.2.6".parse().unwrap()));
//! assert_eq!(
//!     packet.to_string(),
//!     "IP 10.12.22.2 > 10.12.22.3: IP 192.168.1.12.46282 > 192.168.2.6.8080: \
//!      Flags [S], seq 2194532999, win 28000, length 0",
//! );
//! ```
//!
//! The text of a packet is `tcpdump`'s ([`Packet::matches_tcpdump`]), and
//! [`Packet::canonical_inner`] makes the same inner packet comparable between two taps.

mod checksum;
mod decode;
mod header;
mod stop;
mod tcp_option;
mod tcpdump;

#[cfg(test)]
pub(crate) mod tests;

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

pub use checksum::{ChecksumState, ChecksumVerdict};
pub use header::{Arp, Ethernet, Header, Icmp, IcmpMessage, Ipv4, Tcp, TcpFlags, Udp, Vlan};
pub use stop::{Malformation, Protocol, Stop};
pub use tcp_option::TcpOption;

/// IP protocol numbers (IANA) that the decoder understands.
pub mod ip_protocol {
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// IPv4 inside IPv4, RFC 2003.
    pub const IPIP: u8 = 4;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
}

/// What the first byte of a captured packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// An Ethernet header; also what Linux shows on its loopback device.
    Ethernet,
    /// No link header: the packet begins with an IP header (tunnel and TUN devices).
    Ip,
}

/// One decoded header and the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The typed header.
    pub header: Header,
    /// Where the header stands in [`Packet::bytes`].
    pub range: Range<usize>,
}

/// The innermost header of a packet that has ports or a message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport<'a> {
    /// ICMP for IPv4.
    Icmp(&'a Icmp),
    /// TCP.
    Tcp(&'a Tcp),
    /// UDP.
    Udp(&'a Udp),
}

/// A captured packet with its decoded headers. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    link_type: LinkType,
    bytes: Bytes,
    wire_length: usize,
    layers: Arc<[Layer]>,
    payload: Range<usize>,
    payload_length: usize,
    stop: Option<Stop>,
}

impl Packet {
    /// Decodes a packet that was captured whole.
    #[must_use]
    pub fn decode(link_type: LinkType, bytes: impl Into<Bytes>) -> Packet {
        let bytes = bytes.into();
        let wire_length = bytes.len();
        decode::decode(link_type, bytes, wire_length)
    }

    /// Decodes the captured beginning of a packet that had `wire_length` bytes on the wire.
    #[must_use]
    pub fn decode_cut(link_type: LinkType, bytes: impl Into<Bytes>, wire_length: usize) -> Packet {
        let bytes = bytes.into();
        let wire_length = wire_length.max(bytes.len());
        decode::decode(link_type, bytes, wire_length)
    }

    /// How the first byte is to be read.
    #[must_use]
    pub fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// The bytes as captured, link header included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length on the wire in bytes; more than `bytes().len()` when the capture cut the packet.
    #[must_use]
    pub fn wire_length(&self) -> usize {
        self.wire_length
    }

    /// The headers, outermost first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Why decoding went no further; `None` when the packet was understood to its end.
    #[must_use]
    pub fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// What follows the last decoded header, as far as it was captured, without link padding.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload.clone()).unwrap_or_default()
    }

    /// Length of the payload as the headers declare it; more than `payload().len()` when cut.
    #[must_use]
    pub fn payload_length(&self) -> usize {
        self.payload_length
    }

    /// The Ethernet header.
    #[must_use]
    pub fn ethernet(&self) -> Option<&Ethernet> {
        self.headers().find_map(|header| match header {
            Header::Ethernet(ethernet) => Some(ethernet),
            _ => None,
        })
    }

    /// The ARP message.
    #[must_use]
    pub fn arp(&self) -> Option<&Arp> {
        self.headers().find_map(|header| match header {
            Header::Arp(arp) => Some(arp),
            _ => None,
        })
    }

    /// All IPv4 headers, outermost first.
    pub fn ipv4_headers(&self) -> impl DoubleEndedIterator<Item = &Ipv4> {
        self.headers().filter_map(|header| match header {
            Header::Ipv4(ipv4) => Some(ipv4),
            _ => None,
        })
    }

    /// The outermost IPv4 header: the one that routers on the underlay see.
    #[must_use]
    pub fn outer_ipv4(&self) -> Option<&Ipv4> {
        self.ipv4_headers().next()
    }

    /// The innermost IPv4 header, which is the outermost one of a packet without encapsulation.
    #[must_use]
    pub fn inner_ipv4(&self) -> Option<&Ipv4> {
        self.ipv4_headers().next_back()
    }

    /// How many times the packet is encapsulated in IPv4: 0 is plain, 1 is IPIP, 2 is IPIP in IPIP.
    #[must_use]
    pub fn ipip_depth(&self) -> usize {
        self.ipv4_headers().count().saturating_sub(1)
    }

    /// True when the *innermost* IPv4 header goes from `a` to `b` or from `b` to `a`.
    ///
    /// For the outer header ask [`Ipv4::is_between`] of [`Packet::outer_ipv4`].
    #[must_use]
    pub fn is_between(&self, a: Ipv4Addr, b: Ipv4Addr) -> bool {
        self.inner_ipv4().is_some_and(|ipv4| ipv4.is_between(a, b))
    }

    /// The ICMP, TCP or UDP header behind the innermost IPv4 header.
    #[must_use]
    pub fn transport(&self) -> Option<Transport<'_>> {
        match &self.layers.last()?.header {
            Header::Icmp(icmp) => Some(Transport::Icmp(icmp)),
            Header::Tcp(tcp) => Some(Transport::Tcp(tcp)),
            Header::Udp(udp) => Some(Transport::Udp(udp)),
            _ => None,
        }
    }

    /// The TCP header.
    #[must_use]
    pub fn tcp(&self) -> Option<&Tcp> {
        match self.transport()? {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }

    /// The UDP header.
    #[must_use]
    pub fn udp(&self) -> Option<&Udp> {
        match self.transport()? {
            Transport::Udp(udp) => Some(udp),
            _ => None,
        }
    }

    /// The ICMP message.
    #[must_use]
    pub fn icmp(&self) -> Option<&Icmp> {
        match self.transport()? {
            Transport::Icmp(icmp) => Some(icmp),
            _ => None,
        }
    }

    /// The packet that an ICMP error quotes (RFC 792: its IPv4 header and at least eight bytes).
    ///
    /// `None` for everything that is no ICMP error.
    #[must_use]
    pub fn quoted(&self) -> Option<Packet> {
        self.icmp()?.message.is_error().then(|| {
            let quoted = self.bytes.slice(self.payload.clone());
            Packet::decode(LinkType::Ip, quoted)
        })
    }

    /// The innermost IPv4 packet: header, and payload as far as it was captured.
    #[must_use]
    pub fn inner_bytes(&self) -> Option<&[u8]> {
        let layer = self.inner_ipv4_layer()?;
        let Header::Ipv4(ipv4) = &layer.header else {
            return None;
        };
        let rest = self.bytes.get(layer.range.start..)?;
        Some(&rest[..rest.len().min(ipv4.total_length.into())])
    }

    fn headers(&self) -> impl DoubleEndedIterator<Item = &Header> {
        self.layers.iter().map(|layer| &layer.header)
    }

    fn inner_ipv4_layer(&self) -> Option<&Layer> {
        self.layers
            .iter()
            .rfind(|layer| matches!(layer.header, Header::Ipv4(_)))
    }
}
