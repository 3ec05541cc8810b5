//! What a TCP packet says of its connection.

use std::net::Ipv4Addr;

use super::ipv4::Ipv4;
use super::transport::Transport;

/// One direction of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Direction {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// The source's, then the destination's, as they stand in the header.
    pub ports: [u8; 4],
}

/// A TCP packet, which may be a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpPacket {
    pub direction: Direction,
    /// Length of both headers in bytes.
    pub header_len: usize,
    /// Bytes of payload.
    pub length: usize,
}

impl TcpPacket {
    /// Reads a whole packet, without a look at its checksum; `None` when it is none of TCP.
    pub(crate) fn of(packet: &[u8], ip: &Ipv4) -> Option<Self> {
        if Transport::of(ip) != Some(Transport::Tcp) {
            return None;
        }
        let segment = packet.get(ip.header_len..ip.total_len)?;
        let header_len = Transport::Tcp.header_len(segment)?;
        Some(Self {
            direction: Direction {
                source: ip.source,
                destination: ip.destination,
                ports: *segment.first_chunk()?,
            },
            header_len: ip.header_len + header_len,
            length: segment.len() - header_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{OTHER_POD, POD, Sample, ip_packet};
    use super::*;

    fn read(packet: &[u8]) -> Option<TcpPacket> {
        TcpPacket::of(packet, &Ipv4::parse(packet)?)
    }

    #[test]
    fn the_header_is_read_by_its_fields() {
        let sample = Sample::with_payload(300);
        let packet = read(&sample.finished()).unwrap();
        let expected = TcpPacket {
            direction: Direction {
                source: POD,
                destination: OTHER_POD,
                ports: [0x9c, 0x40, 0x1f, 0x90],
            },
            header_len: 20 + 20 + 12,
            length: 300,
        };
        assert_eq!(packet, expected);
    }

    #[test]
    fn what_is_no_tcp_or_not_whole_is_nothing() {
        assert_eq!(read(&Sample::udp(300).finished()), None);
        let pods = (POD, OTHER_POD);
        assert_eq!(
            read(&ip_packet(0, 0, 0x2000, 64, 6, pods, &[0x55; 40])),
            None
        );
        assert_eq!(read(&ip_packet(0, 0, 0, 64, 6, pods, &[0x55; 19])), None);
    }
}
