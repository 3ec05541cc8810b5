//! Rebuilding super-packets from consecutive TCP segments of a batch, by the rules of the
//! kernel's own receive offload (`tcp_gro_receive`): what is put together here, cut again, is
//! what came.

use std::ops::Range;

use super::ipv4::{self, HEADER, Ipv4};
use super::transport::{Transport, tcp};
use super::vnet::{Gso, Vnet};
use super::{frame, split};

/// A packet to hand to the node.
pub(crate) struct Delivery<'a> {
    pub vnet: Vnet,
    /// Its headers, made anew; nothing when it is handed on as it came.
    pub headers: &'a [u8],
    /// Where the rest lies in the batch's buffer, in order.
    pub pieces: &'a [Range<usize>],
}

/// The packets of one batch, in the order of their first segments.
#[derive(Default)]
pub(crate) struct Coalescer {
    /// Those behind `used` are kept for their memory.
    groups: Vec<Group>,
    used: usize,
}

struct Group {
    ip: Ipv4,
    /// The packet that came first, and what is left to be done about it.
    first: Range<usize>,
    vnet: Vnet,
    /// What makes it a TCP segment that others can follow.
    stream: Option<Stream>,
    pieces: Vec<Range<usize>>,
}

/// A run of segments without a gap.
#[derive(Clone, Copy)]
struct Stream {
    ports: [u8; 4],
    header_len: usize,
    next_sequence: u32,
    segments: u16,
    size: usize,
    length: usize,
    push: u8,
    /// Another segment may follow.
    open: bool,
}

impl Coalescer {
    /// Adds the packet that lies at `at` of the batch's `buffer`, with what is left to be done
    /// about it.
    pub(crate) fn add(&mut self, buffer: &[u8], at: Range<usize>, ip: Ipv4, vnet: Vnet) {
        let packet = &buffer[at.clone()];
        let finished = vnet == Vnet::default();
        // The look at a checksum costs most of all this.
        let candidate = finished.then(|| Stream::of(packet, &ip)).flatten();
        if let Some(candidate) = &candidate {
            // The latest of the connection: to join an earlier one would change the order.
            let latest = self.groups[..self.used]
                .iter_mut()
                .rev()
                .find(|group| group.is_connection(&ip, packet));
            if let Some(group) = latest
                && group.join(buffer, &at, &ip, candidate)
            {
                return;
            }
        }
        self.push(at, ip, vnet, candidate);
    }

    fn push(&mut self, at: Range<usize>, ip: Ipv4, vnet: Vnet, stream: Option<Stream>) {
        let piece = match &stream {
            Some(stream) => at.start + stream.header_len..at.end,
            None => at.clone(),
        };
        match self.groups.get_mut(self.used) {
            Some(group) => {
                group.pieces.clear();
                (group.ip, group.first, group.vnet, group.stream) = (ip, at, vnet, stream);
                group.pieces.push(piece);
            }
            None => self.groups.push(Group {
                ip,
                first: at,
                vnet,
                stream,
                pieces: vec![piece],
            }),
        }
        self.used += 1;
    }

    /// Hands out all packets and is empty then.
    pub(crate) fn drain(&mut self, buffer: &[u8], mut deliver: impl FnMut(Delivery<'_>)) {
        for group in &self.groups[..self.used] {
            match &group.stream {
                Some(stream) if stream.segments > 1 => {
                    let mut headers = [0; split::HEADERS];
                    let headers = &mut headers[..stream.header_len];
                    headers.copy_from_slice(&buffer[group.first.clone()][..stream.header_len]);
                    deliver(Delivery {
                        vnet: stream.finish(&group.ip, headers),
                        headers,
                        pieces: &group.pieces,
                    });
                }
                _ => deliver(Delivery {
                    vnet: group.vnet,
                    headers: &[],
                    pieces: std::slice::from_ref(&group.first),
                }),
            }
        }
        self.used = 0;
    }
}

impl Group {
    /// Whether `packet`, which is a TCP segment, belongs to the same connection and direction.
    fn is_connection(&self, ip: &Ipv4, packet: &[u8]) -> bool {
        let same = |stream: &Stream| packet[ip.header_len..].starts_with(&stream.ports);
        (self.ip.source, self.ip.destination) == (ip.source, ip.destination)
            && match &self.stream {
                Some(stream) => same(stream),
                // Not a segment to join, but maybe of the connection: then nothing may pass it.
                None => self.ip.protocol == ip.protocol,
            }
    }

    fn join(&mut self, buffer: &[u8], at: &Range<usize>, ip: &Ipv4, next: &Stream) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let (first, packet) = (&buffer[self.first.clone()], &buffer[at.clone()]);
        let in_order = next.sequence(packet) == stream.next_sequence
            && (ip.dont_fragment || ip.id == self.ip.id.wrapping_add(stream.segments));
        let alike = stream.header_len == next.header_len
            && (ip.tos, ip.ttl, ip.dont_fragment)
                == (self.ip.tos, self.ip.ttl, self.ip.dont_fragment)
            && [
                tcp::ACKNOWLEDGEMENT,
                tcp::WINDOW,
                20..next.header_len - HEADER,
            ]
            .into_iter()
            .all(|field| first[HEADER..][field.clone()] == packet[HEADER..][field]);
        let fits = next.length <= stream.size
            && stream.header_len + stream.length + next.length <= usize::from(u16::MAX);
        if !(stream.open && in_order && alike && fits) {
            return false;
        }
        stream.next_sequence = next.next_sequence;
        stream.segments += 1;
        stream.length += next.length;
        stream.push |= next.push;
        stream.open = next.open && next.length == stream.size;
        self.pieces.push(at.start + next.header_len..at.end);
        true
    }
}

impl Stream {
    /// `None` for what is no TCP segment with data and without anything special. The checksum
    /// has to be right: a super-packet gets a new one.
    fn of(packet: &[u8], ip: &Ipv4) -> Option<Self> {
        if Transport::of(ip) != Some(Transport::Tcp) || ip.header_len != HEADER {
            return None;
        }
        let segment = &packet[HEADER..];
        let header_len = HEADER + Transport::Tcp.header_len(segment)?;
        let flags = segment[tcp::FLAGS];
        let length = packet.len() - header_len;
        if flags & !tcp::PSH != tcp::ACK || length == 0 || !Transport::Tcp.is_valid(ip, segment) {
            return None;
        }
        let mut stream = Self {
            ports: *segment.first_chunk()?,
            header_len,
            next_sequence: 0,
            segments: 1,
            size: length,
            length,
            push: flags & tcp::PSH,
            open: flags & tcp::PSH == 0,
        };
        stream.next_sequence = stream.sequence(packet).wrapping_add(length as u32);
        Some(stream)
    }

    fn sequence(&self, packet: &[u8]) -> u32 {
        let mut sequence = [0; 4];
        sequence.copy_from_slice(&packet[HEADER..][tcp::SEQUENCE]);
        u32::from_be_bytes(sequence)
    }

    /// Makes the first segment's headers those of the super-packet.
    fn finish(&self, ip: &Ipv4, headers: &mut [u8]) -> Vnet {
        let total_len = self.header_len + self.length;
        let (ip_header, tcp_header) = headers.split_at_mut(HEADER);
        ipv4::rewrite(ip_header, total_len as u16, ip.id);
        tcp_header[tcp::FLAGS] |= self.push;
        let partial = Transport::Tcp.pseudo(ip, total_len - HEADER).partial();
        let at = Transport::Tcp.checksum_at();
        tcp_header[at..at + 2].copy_from_slice(&partial);
        Vnet {
            checksum: Some(((frame::ETHERNET + HEADER) as u16, at as u16)),
            gso: Some((Gso::Tcp, self.size as u16)),
            header_len: (frame::ETHERNET + self.header_len) as u16,
            ecn: false,
        }
    }
}
