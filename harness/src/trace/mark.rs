//! By what a probe is known again, at any device and below any encapsulation.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv4Addr;

use crate::packet::{Header, IcmpMessage, LinkType, Packet};

/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;

/// Length of the mark in bytes.
pub(super) const LENGTH: usize = 16;

/// What makes one probe different from every other packet there ever was.
///
/// Probes with a payload begin it with these bytes. A TCP segment without payload is known by its
/// ports and its sequence number, which are taken from the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    bytes: [u8; LENGTH],
    /// TCP probes carry no payload.
    tcp_port: Option<u16>,
}

/// What a packet has to do with a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is the probe.
    Request,
    /// It answers the probe.
    Reply,
    /// It is an ICMP error that quotes the probe.
    ErrorAboutRequest,
    /// It is an ICMP error that quotes the answer.
    ErrorAboutReply,
}

impl Mark {
    /// The first of a new series. With `tcp_port` it marks a segment to that port.
    pub(super) fn new(tcp_port: Option<u16>) -> Self {
        let mut bytes = *b"podlab..........";
        let random = RandomState::new().build_hasher().finish();
        bytes[6..8].copy_from_slice(&(std::process::id() as u16).to_be_bytes());
        bytes[8..].copy_from_slice(&random.to_be_bytes());
        Self { bytes, tcp_port }
    }

    pub(super) fn bytes(&self) -> &[u8; LENGTH] {
        &self.bytes
    }

    /// Identifier of an echo request.
    pub(super) fn identifier(&self) -> u16 {
        u16::from_be_bytes([self.bytes[8], self.bytes[9]])
    }

    /// Source port of a TCP probe: above the ports that the kernel gives out by itself.
    pub(super) fn source_port(&self) -> u16 {
        61_000 + self.identifier() % 4_000
    }

    /// Sequence number of a TCP probe.
    pub(super) fn sequence(&self) -> u32 {
        let [.., a, b, c, d] = self.bytes;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The mark of the next probe of the same series.
    pub(super) fn next(&self) -> Self {
        // Neither the acknowledged number of a segment nor a neighbour of it.
        const STEP: u32 = 0x0001_0001;
        let mut next = *self;
        let number = self.sequence().wrapping_add(STEP);
        next.bytes[LENGTH - 4..].copy_from_slice(&number.to_be_bytes());
        next
    }

    /// What identifies the probe in its own transport header or payload.
    fn pattern(&self) -> Vec<u8> {
        match self.tcp_port {
            None => self.bytes.to_vec(),
            Some(_) => {
                let (_, mut pattern) = self.of_series();
                pattern.extend(self.sequence().to_be_bytes());
                pattern
            }
        }
    }

    /// What all probes of the series have in common, with its distance from the start of the
    /// transport header in bytes.
    pub(super) fn of_series(&self) -> (usize, Vec<u8>) {
        match self.tcp_port {
            None => (8, self.bytes[..LENGTH - 4].to_vec()),
            Some(port) => {
                let ports = [self.source_port().to_be_bytes(), port.to_be_bytes()];
                (0, ports.concat())
            }
        }
    }

    /// What the packet has to do with the probe, and the packet taken apart: the outermost packet
    /// first, then what an encapsulation that is no IPv4 header carries.
    pub(super) fn recognise(&self, packet: &Packet) -> Option<(Relation, Vec<Packet>)> {
        let at = self.find(packet.bytes())?;
        let stack = unwrap(packet, at);
        let innermost = stack.last()?;
        let quoted = innermost.quoted();
        let relation = match (&quoted, innermost.icmp().map(|icmp| &icmp.message)) {
            (Some(quoted), _) if self.is_reply(quoted) => Relation::ErrorAboutReply,
            (Some(_), _) => Relation::ErrorAboutRequest,
            (None, Some(IcmpMessage::EchoReply { .. })) => Relation::Reply,
            (None, _) if self.is_reply(innermost) => Relation::Reply,
            (None, _) => Relation::Request,
        };
        Some((relation, stack))
    }

    /// Where the identifying bytes of probe or answer are.
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let pattern = self.pattern();
        let position =
            |wanted: &dyn Fn(&[u8]) -> bool, length| bytes.windows(length).position(wanted);
        let found = position(&|window| window == pattern.as_slice(), pattern.len());
        let Some(port) = self.tcp_port else {
            return found;
        };
        // The answer: ports the other way round, any sequence number, ours acknowledged.
        found.or_else(|| {
            let mut ports = port.to_be_bytes().to_vec();
            ports.extend(self.source_port().to_be_bytes());
            let acknowledged = self.sequence().wrapping_add(1).to_be_bytes();
            let answers = |window: &[u8]| window[..4] == ports[..] && window[8..] == acknowledged;
            position(&answers, 12)
        })
    }

    fn is_reply(&self, packet: &Packet) -> bool {
        match (packet.icmp(), packet.tcp()) {
            (Some(icmp), _) => matches!(icmp.message, IcmpMessage::EchoReply { .. }),
            (None, Some(tcp)) => Some(tcp.source_port) == self.tcp_port,
            (None, None) => false,
        }
    }
}

/// Takes a packet apart down to the byte `at`, which lies in its innermost packet.
///
/// Whatever carries the inner packet (VXLAN, Geneve, GRE, UDP of any kind) needs no decoder: the
/// inner IPv4 header is found by its own checksum.
fn unwrap(packet: &Packet, at: usize) -> Vec<Packet> {
    let mut stack = vec![packet.clone()];
    let mut at = at;
    while let Some((inner, offset)) = stack.last().and_then(|outer| carried(outer, at)) {
        at -= offset;
        stack.push(inner);
    }
    stack
}

/// The IPv4 packet in the undecoded part of `outer` that contains the byte `at`.
fn carried(outer: &Packet, at: usize) -> Option<(Packet, usize)> {
    let bytes = outer.bytes();
    let decoded = outer.layers().last().map_or(0, |layer| layer.range.end);
    // An ICMP error quotes its cause; that is no encapsulation.
    if outer.icmp().is_some() || at < decoded {
        return None;
    }
    let starts = decoded..at.saturating_sub(IPV4_HEADER - 1);
    starts.into_iter().find_map(|start| {
        let rest = bytes.get(start..)?;
        let inner = Packet::decode(LinkType::Ip, bytes.slice(start..));
        let Header::Ipv4(header) = &inner.layers().first()?.header else {
            return None;
        };
        let holds = start + usize::from(header.total_length) > at;
        let unspecified = header.source == Ipv4Addr::UNSPECIFIED;
        (rest[0] == 0x45 && header.checksum_correct && holds && !unspecified)
            .then_some((inner, start))
    })
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const A: [u8; 4] = [192, 168, 1, 12];
    const B: [u8; 4] = [192, 168, 2, 6];

    fn echo(mark: &Mark, kind: etherparse::Icmpv4Type) -> Vec<u8> {
        let mut bytes = Vec::new();
        let packet = PacketBuilder::ipv4(A, B, 64).icmpv4(kind);
        packet.write(&mut bytes, mark.bytes()).unwrap();
        bytes
    }

    fn request(mark: &Mark) -> Vec<u8> {
        let header = etherparse::IcmpEchoHeader { id: 1, seq: 1 };
        echo(mark, etherparse::Icmpv4Type::EchoRequest(header))
    }

    fn addresses(stack: &[Packet]) -> Vec<String> {
        let headers = stack.iter().flat_map(Packet::ipv4_headers);
        headers.map(|header| header.source.to_string()).collect()
    }

    /// If this fails, a trace is blind for every encapsulation that is not IPIP.
    #[test]
    fn a_probe_is_known_below_vxlan() {
        let mark = Mark::new(None);
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(A, B, 63);
        let mut inner = Vec::new();
        ethernet
            .icmpv4_echo_request(1, 1)
            .write(&mut inner, mark.bytes())
            .unwrap();
        let mut payload = vec![8, 0, 0, 0, 0, 0, 7, 0];
        payload.extend(inner);
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(50_000, 4789)
            .write(&mut bytes, &payload)
            .unwrap();
        let packet = Packet::decode(LinkType::Ip, bytes);
        let (relation, stack) = mark.recognise(&packet).unwrap();
        assert_eq!(relation, Relation::Request);
        assert_eq!(addresses(&stack), ["10.0.0.1", "192.168.1.12"]);
        assert!(stack.last().unwrap().icmp().is_some());
    }

    #[test]
    fn request_answer_and_error_are_told_apart_and_strangers_are_not_known() {
        let mark = Mark::new(None);
        let known = |bytes: Vec<u8>| {
            let packet = Packet::decode(LinkType::Ip, bytes);
            mark.recognise(&packet).map(|(relation, _)| relation)
        };
        assert_eq!(known(request(&mark)), Some(Relation::Request));
        let header = etherparse::IcmpEchoHeader { id: 1, seq: 1 };
        let reply = echo(&mark, etherparse::Icmpv4Type::EchoReply(header));
        assert_eq!(known(reply.clone()), Some(Relation::Reply));
        let unreachable = |quoted: Vec<u8>| {
            let mut bytes = Vec::new();
            let kind = etherparse::Icmpv4Type::DestinationUnreachable(
                etherparse::icmpv4::DestUnreachableHeader::Host,
            );
            let packet = PacketBuilder::ipv4(B, A, 64).icmpv4(kind);
            packet.write(&mut bytes, &quoted).unwrap();
            bytes
        };
        let about_request = known(unreachable(request(&mark)));
        assert_eq!(about_request, Some(Relation::ErrorAboutRequest));
        let about_reply = known(unreachable(reply));
        assert_eq!(about_reply, Some(Relation::ErrorAboutReply));
        assert_eq!(known(request(&Mark::new(None))), None);
    }

    #[test]
    fn a_segment_without_payload_is_known_by_its_numbers() {
        let mark = Mark::new(Some(8080));
        let mut syn = Vec::new();
        PacketBuilder::ipv4(A, B, 64)
            .tcp(mark.source_port(), 8080, mark.sequence(), 1000)
            .syn()
            .write(&mut syn, &[])
            .unwrap();
        let mut answer = Vec::new();
        PacketBuilder::ipv4(B, A, 64)
            .tcp(8080, mark.source_port(), 7, 1000)
            .syn()
            .ack(mark.sequence().wrapping_add(1))
            .write(&mut answer, &[])
            .unwrap();
        let known = |bytes: Vec<u8>| {
            let packet = Packet::decode(LinkType::Ip, bytes);
            mark.recognise(&packet).map(|(relation, _)| relation)
        };
        assert_eq!(known(syn.clone()), Some(Relation::Request));
        assert_eq!(known(answer), Some(Relation::Reply));
        syn[20] ^= 1;
        assert_eq!(known(syn), None);
    }

    #[test]
    fn probes_of_a_series_are_told_apart_and_have_something_in_common() {
        for port in [None, Some(80)] {
            let (one, two) = (Mark::new(port), Mark::new(port).next());
            let next = one.next();
            assert_ne!(one.pattern(), next.pattern());
            assert_eq!(one.of_series(), next.of_series());
            assert_ne!(one.of_series(), two.of_series());
            let (_, common) = one.of_series();
            assert!(next.pattern().starts_with(&common));
        }
    }
}
