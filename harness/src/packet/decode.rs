//! The walk from the link layer inwards.
//!
//! etherparse reads the single headers; the walk itself is ours because its slicers end at an
//! inner IP header. Two ends move inwards together: where the captured bytes end, and where the
//! headers say that the packet ends. They differ when the capture, or a fragment, cut the packet.

use std::net::Ipv4Addr;
use std::ops::Range;

use bytes::Bytes;
use etherparse::{
    ArpPacketSlice, Ethernet2HeaderSlice, Ipv4HeaderSlice, SingleVlanHeaderSlice, TcpHeaderSlice,
    UdpHeaderSlice, icmpv4,
};

use super::stop::Stop::{HeaderCut, Malformed};
use super::{
    Arp, Ethernet, Header, Icmp, IcmpMessage, Ipv4, Layer, LinkType, Malformation, Packet,
    Protocol, Stop, Tcp, TcpFlags, TcpOption, Udp, Vlan, checksum, ip_protocol,
};

const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_ARP: u16 = 0x0806;
const ETHER_TYPE_VLAN: [u16; 2] = [0x8100, 0x88a8];

const ETHERNET_LENGTH: usize = 14;
const VLAN_LENGTH: usize = 4;
const ARP_LENGTH: usize = 28;
const IPV4_MIN_LENGTH: usize = 20;
const ICMP_LENGTH: usize = 8;
const TCP_MIN_LENGTH: usize = 20;
const UDP_LENGTH: usize = 8;

pub(super) fn decode(link_type: LinkType, bytes: Bytes, wire_length: usize) -> Packet {
    let mut walk = Walk {
        bytes: &bytes,
        at: 0,
        end: bytes.len(),
        declared_end: wire_length,
        layers: Vec::new(),
    };
    let stop = walk.run(link_type).err().or_else(|| walk.payload_cut());
    let (payload, payload_length) = (walk.at..walk.end, walk.declared_left());
    let layers = walk.layers.into();
    Packet {
        link_type,
        bytes,
        wire_length,
        layers,
        payload,
        payload_length,
        stop,
    }
}

/// What stands at the walk's position.
#[derive(Clone, Copy)]
enum Next {
    Ethernet,
    EtherType(u16),
    Ip(u8),
    Payload,
}

struct Walk<'a> {
    bytes: &'a [u8],
    /// Start of what is not decoded yet.
    at: usize,
    /// End of the captured bytes that belong to the packet.
    end: usize,
    /// End of the packet as its headers declare it.
    declared_end: usize,
    layers: Vec<Layer>,
}

impl Walk<'_> {
    fn run(&mut self, link_type: LinkType) -> Result<(), Stop> {
        let mut next = match link_type {
            LinkType::Ethernet => Next::Ethernet,
            LinkType::Ip => Next::EtherType(ETHER_TYPE_IPV4),
        };
        loop {
            next = match next {
                Next::Ethernet => self.ethernet()?,
                Next::EtherType(ETHER_TYPE_IPV4) | Next::Ip(ip_protocol::IPIP) => self.ipv4()?,
                Next::EtherType(ETHER_TYPE_ARP) => self.arp()?,
                Next::EtherType(kind) if ETHER_TYPE_VLAN.contains(&kind) => self.vlan()?,
                Next::EtherType(kind) => return Err(Stop::UnknownEtherType(kind)),
                Next::Ip(ip_protocol::ICMP) => self.icmp()?,
                Next::Ip(ip_protocol::TCP) => self.tcp()?,
                Next::Ip(ip_protocol::UDP) => self.udp()?,
                Next::Ip(number) => return Err(Stop::UnknownProtocol(number)),
                Next::Payload => return Ok(()),
            }
        }
    }

    fn ethernet(&mut self) -> Result<Next, Stop> {
        let slice = Ethernet2HeaderSlice::from_slice(self.rest())
            .map_err(|_| self.cut(Protocol::Ethernet, ETHERNET_LENGTH))?;
        let ether_type = slice.ether_type().0;
        let header = Ethernet {
            source: slice.source(),
            destination: slice.destination(),
            ether_type,
        };
        self.push(Header::Ethernet(header), ETHERNET_LENGTH);
        Ok(Next::EtherType(ether_type))
    }

    fn vlan(&mut self) -> Result<Next, Stop> {
        let slice = SingleVlanHeaderSlice::from_slice(self.rest())
            .map_err(|_| self.cut(Protocol::Vlan, VLAN_LENGTH))?;
        let ether_type = slice.ether_type().0;
        let id = slice.vlan_identifier().value();
        self.push(Header::Vlan(Vlan { id, ether_type }), VLAN_LENGTH);
        Ok(Next::EtherType(ether_type))
    }

    fn arp(&mut self) -> Result<Next, Stop> {
        let malformed = Malformed {
            header: Protocol::Arp,
            reason: Malformation::AddressKind,
        };
        // Kind and length of both addresses, as RFC 826 gives them for IPv4 over Ethernet.
        match self.rest().get(..6) {
            Some([0, 1, 8, 0, 6, 4]) => {}
            Some(_) => return Err(malformed),
            None => return Err(self.cut(Protocol::Arp, ARP_LENGTH)),
        }
        let packet = ArpPacketSlice::from_slice(self.rest())
            .map_err(|_| self.cut(Protocol::Arp, ARP_LENGTH))?
            .to_packet();
        let arp = packet.try_eth_ipv4().map_err(|_| malformed)?;
        let header = Arp {
            operation: arp.operation.0,
            sender_mac: arp.sender_mac,
            sender: arp.sender_ipv4_addr(),
            target_mac: arp.target_mac,
            target: arp.target_ipv4_addr(),
        };
        self.push(Header::Arp(header), ARP_LENGTH);
        // What follows is padding to the link's smallest frame.
        self.set_ends(self.at);
        Ok(Next::Payload)
    }

    fn ipv4(&mut self) -> Result<Next, Stop> {
        let rest = self.rest();
        let malformed = |reason| Malformed {
            header: Protocol::Ipv4,
            reason,
        };
        let [first, ..] = rest else {
            return Err(self.cut(Protocol::Ipv4, IPV4_MIN_LENGTH));
        };
        if first >> 4 != 4 {
            return Err(malformed(Malformation::Version(first >> 4)));
        }
        if rest.len() < IPV4_MIN_LENGTH {
            return Err(self.cut(Protocol::Ipv4, IPV4_MIN_LENGTH));
        }
        let header_length = usize::from(first & 0xf) * 4;
        if header_length < IPV4_MIN_LENGTH {
            return Err(malformed(Malformation::HeaderLength(header_length)));
        }
        let slice = Ipv4HeaderSlice::from_slice(rest)
            .map_err(|_| self.cut(Protocol::Ipv4, header_length))?;
        let total_length = slice.total_len();
        if usize::from(total_length) < header_length {
            return Err(malformed(Malformation::Length(total_length.into())));
        }
        let header = Ipv4 {
            source: slice.source_addr(),
            destination: slice.destination_addr(),
            protocol: slice.protocol().0,
            ttl: slice.ttl(),
            dscp: slice.dcp().value(),
            ecn: slice.ecn().value(),
            identification: slice.identification(),
            dont_fragment: slice.dont_fragment(),
            more_fragments: slice.more_fragments(),
            fragment_offset: slice.fragments_offset().byte_offset(),
            total_length,
            options: slice.options().to_vec(),
            checksum: slice.header_checksum(),
            checksum_correct: checksum::sum(&[slice.slice()]) == 0,
        };
        let (protocol, fragment_offset) = (header.protocol, header.fragment_offset);
        self.set_ends(self.at + usize::from(total_length));
        self.push(Header::Ipv4(header), header_length);
        match fragment_offset {
            0 => Ok(Next::Ip(protocol)),
            _ => Err(Stop::LaterFragment),
        }
    }

    fn icmp(&mut self) -> Result<Next, Stop> {
        let &[kind, code, c0, c1, a, b, c, d, ..] = self.rest() else {
            return Err(self.cut(Protocol::Icmp, ICMP_LENGTH));
        };
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let message = match (kind, code) {
            (icmpv4::TYPE_ECHO_REPLY, _) => IcmpMessage::EchoReply {
                id: high,
                sequence: low,
            },
            (icmpv4::TYPE_ECHO_REQUEST, _) => IcmpMessage::EchoRequest {
                id: high,
                sequence: low,
            },
            (icmpv4::TYPE_DEST_UNREACH, icmpv4::CODE_DST_UNREACH_NEED_FRAG) => {
                IcmpMessage::FragmentationNeeded { mtu: low }
            }
            (icmpv4::TYPE_DEST_UNREACH, code) => IcmpMessage::Unreachable { code },
            (icmpv4::TYPE_REDIRECT, code) => IcmpMessage::Redirect {
                code,
                gateway: Ipv4Addr::new(a, b, c, d),
            },
            (icmpv4::TYPE_TIME_EXCEEDED, code) => IcmpMessage::TimeExceeded { code },
            (icmpv4::TYPE_PARAMETER_PROBLEM, code) => {
                IcmpMessage::ParameterProblem { code, pointer: a }
            }
            (kind, code) => IcmpMessage::Other {
                kind,
                code,
                rest: [a, b, c, d],
            },
        };
        let checksum = u16::from_be_bytes([c0, c1]);
        self.push(Header::Icmp(Icmp { message, checksum }), ICMP_LENGTH);
        Ok(Next::Payload)
    }

    fn tcp(&mut self) -> Result<Next, Stop> {
        let rest = self.rest();
        let Some((mut fixed, options)) = split_array::<TCP_MIN_LENGTH>(rest) else {
            return Err(self.cut(Protocol::Tcp, TCP_MIN_LENGTH));
        };
        let header_length = usize::from(fixed[12] >> 4) * 4;
        let malformed = Malformed {
            header: Protocol::Tcp,
            reason: Malformation::HeaderLength(header_length),
        };
        if header_length < TCP_MIN_LENGTH {
            return Err(malformed);
        }
        // Read as a header without options, so that options which are cut or lie about their
        // length do not hide the ports.
        fixed[12] = (5 << 4) | (fixed[12] & 0x0f);
        let slice = TcpHeaderSlice::from_slice(&fixed)
            .map_err(|_| self.cut(Protocol::Tcp, TCP_MIN_LENGTH))?;
        let declared = self.declared_left();
        let options_length = header_length - TCP_MIN_LENGTH;
        let options = match header_length <= declared {
            true => {
                let present = &options[..options.len().min(options_length)];
                TcpOption::parse_all(present, options_length)
            }
            false => Vec::new(),
        };
        let header = Tcp {
            source_port: slice.source_port(),
            destination_port: slice.destination_port(),
            sequence: slice.sequence_number(),
            acknowledgment: slice.acknowledgment_number(),
            flags: TcpFlags::from_bits(fixed[13]),
            window: slice.window_size(),
            urgent: slice.urgent_pointer(),
            checksum: slice.checksum(),
            options,
        };
        let stop = if header_length > declared {
            Some(malformed)
        } else if header_length > rest.len() {
            Some(self.cut(Protocol::Tcp, header_length))
        } else {
            None
        };
        let present = rest.len().min(header_length);
        self.push(Header::Tcp(header), present);
        stop.map_or(Ok(Next::Payload), Err)
    }

    fn udp(&mut self) -> Result<Next, Stop> {
        let slice = UdpHeaderSlice::from_slice(self.rest())
            .map_err(|_| self.cut(Protocol::Udp, UDP_LENGTH))?;
        let header = Udp {
            source_port: slice.source_port(),
            destination_port: slice.destination_port(),
            length: slice.length(),
            checksum: slice.checksum(),
        };
        let length = usize::from(header.length);
        let (start, declared) = (self.at, self.declared_left());
        self.push(Header::Udp(header), UDP_LENGTH);
        // The first fragment carries less than the length of the whole datagram.
        if length < UDP_LENGTH || (length > declared && !self.in_fragment()) {
            let reason = Malformation::Length(length);
            return Err(Malformed {
                header: Protocol::Udp,
                reason,
            });
        }
        if length < declared {
            self.set_ends(start + length);
        }
        Ok(Next::Payload)
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    /// Bytes from here to the end that the headers declare.
    fn declared_left(&self) -> usize {
        self.declared_end.saturating_sub(self.at)
    }

    fn push(&mut self, header: Header, length: usize) {
        let range: Range<usize> = self.at..self.at + length;
        self.at = range.end;
        self.layers.push(Layer { header, range });
    }

    /// Moves both ends to where a header says that the packet ends.
    fn set_ends(&mut self, declared_end: usize) {
        self.declared_end = declared_end;
        self.end = self.end.min(declared_end);
    }

    fn cut(&self, header: Protocol, needed: usize) -> Stop {
        HeaderCut {
            header,
            needed,
            present: self.rest().len(),
        }
    }

    fn payload_cut(&self) -> Option<Stop> {
        let (declared, present) = (self.declared_left(), self.rest().len());
        (present < declared).then_some(Stop::PayloadCut { declared, present })
    }

    fn in_fragment(&self) -> bool {
        self.layers.iter().rev().any(|layer| match &layer.header {
            Header::Ipv4(ipv4) => ipv4.is_fragment(),
            _ => false,
        })
    }
}

/// The first `N` bytes by value, and the rest.
fn split_array<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((*first, rest))
}
