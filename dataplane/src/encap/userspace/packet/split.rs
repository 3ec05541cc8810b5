//! Cutting a super-packet into the segments that it stands for, as the kernel's
//! `tcp_gso_segment` and `__udp_gso_segment` do.

use std::ops::Range;

use super::ipv4::{self, Ipv4, LONGEST_HEADER};
use super::transport::{Transport, tcp};
use super::vnet::Gso;

/// Room for the headers of one segment: IPv4 and TCP, both with all options there can be.
pub(crate) const HEADERS: usize = LONGEST_HEADER + 60;

/// The smallest segment that Linux makes (`TCP_MIN_GSO_SIZE`). Less would make one packet into
/// tens of thousands. UDP's may be smaller, the kernel bounds their number.
const SMALLEST: usize = 8;
/// `UDP_MAX_SEGMENTS`.
const MOST_UDP: usize = 128;

/// One segment: headers of its own, payload still in the super-packet.
pub(crate) struct Segment {
    headers: [u8; HEADERS],
    header_len: usize,
    /// Where its payload lies in the super-packet.
    pub payload: Range<usize>,
}

impl Segment {
    /// IPv4 and transport header; the transport's checksum as [`Checksums`] has it.
    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers[..self.header_len]
    }

    /// Length of the packet in bytes.
    pub(crate) fn len(&self) -> usize {
        self.header_len + self.payload.len()
    }
}

/// What the segments' transport checksums shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksums {
    /// As on a wire.
    Finished,
    /// Those of the pseudo-headers alone, to be completed by whoever is next.
    Left,
}

/// The segments of a super-packet, in order.
pub(crate) struct Segments<'a> {
    packet: &'a [u8],
    ip: Ipv4,
    transport: Transport,
    header_len: usize,
    size: usize,
    next: usize,
    checksums: Checksums,
}

impl<'a> Segments<'a> {
    /// `packet` is the super-packet from its IPv4 header to its end; a segment carries up to
    /// `size` bytes of its payload. `None` when it is not what `gso` says.
    pub(crate) fn new(
        packet: &'a [u8],
        ip: Ipv4,
        (gso, size): (Gso, u16),
        checksums: Checksums,
    ) -> Option<Self> {
        let transport = Transport::of(&ip)?;
        let size = usize::from(size);
        let segment = packet.get(ip.header_len..)?;
        let header_len = ip.header_len + transport.header_len(segment)?;
        let payload = packet.len() - header_len;
        let right = match (gso, transport) {
            (Gso::Tcp, Transport::Tcp) => size >= SMALLEST,
            (Gso::Udp, Transport::Udp) => size > 0 && payload.div_ceil(size) <= MOST_UDP,
            _ => false,
        };
        (right && payload > 0).then_some(Self {
            packet,
            ip,
            transport,
            header_len,
            size,
            next: header_len,
            checksums,
        })
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let payload = self.next..self.packet.len().min(self.next + self.size);
        if payload.is_empty() {
            return None;
        }
        let before = self.next - self.header_len;
        let count = before / self.size;
        let mut headers = [0; HEADERS];
        headers[..self.header_len].copy_from_slice(&self.packet[..self.header_len]);
        let (ip_header, transport_header) =
            headers[..self.header_len].split_at_mut(self.ip.header_len);

        let total_len = self.header_len + payload.len();
        ipv4::rewrite(
            ip_header,
            u16::try_from(total_len).unwrap_or(u16::MAX),
            self.ip.id.wrapping_add(count as u16),
        );
        let length = total_len - self.ip.header_len;
        let unchecked = match self.transport {
            Transport::Tcp => {
                let last = payload.end == self.packet.len();
                tcp_header(transport_header, before, last);
                false
            }
            Transport::Udp => {
                let length = u16::try_from(length).unwrap_or(u16::MAX);
                transport_header[4..6].copy_from_slice(&length.to_be_bytes());
                transport_header[6..8] == [0, 0]
            }
        };
        if !unchecked {
            let at = self.transport.checksum_at();
            transport_header[at..at + 2].fill(0);
            let sum = self.transport.pseudo(&self.ip, length);
            let checksum = match self.checksums {
                Checksums::Left => sum.partial(),
                Checksums::Finished => {
                    let sum = sum.bytes(transport_header);
                    let checksum = sum.bytes(&self.packet[payload.clone()]).checksum();
                    self.transport.on_the_wire(checksum)
                }
            };
            transport_header[at..at + 2].copy_from_slice(&checksum);
        }

        self.next = payload.end;
        Some(Segment {
            headers,
            header_len: self.header_len,
            payload,
        })
    }
}

/// Makes the super-packet's TCP header that of the segment with `before` bytes before it.
fn tcp_header(header: &mut [u8], before: usize, last: bool) {
    let mut sequence = [0; 4];
    sequence.copy_from_slice(&header[tcp::SEQUENCE]);
    let sequence = u32::from_be_bytes(sequence).wrapping_add(before as u32);
    header[tcp::SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
    if before > 0 {
        header[tcp::FLAGS] &= !tcp::CWR;
    }
    if !last {
        header[tcp::FLAGS] &= !(tcp::FIN | tcp::PSH);
    }
}
