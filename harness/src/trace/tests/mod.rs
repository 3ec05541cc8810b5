//! Traces made by hand: a healthy path as hops, and what is done to it.

mod comparison;
mod diagnosis;
mod refused;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Type, IpNumber, Ipv4Header, PacketBuilder,
};

use super::assemble::Expected;
use super::compare::compare;
use super::hop::{Hop, Leg};
use super::mark::Mark;
use super::point::Point;
use super::topology::tests::three_nodes;
use super::topology::{Station, Topology};
use crate::capture::{Captured, Direction};
use crate::packet::{ChecksumState, LinkType, Packet};
use crate::spec::Encapsulation;

/// The pods `p1` on `n1` and `p2` on `n2`.
pub(super) const P1: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 5);
pub(super) const P2: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 5);
pub(super) const N1: Ipv4Addr = Ipv4Addr::new(10, 12, 0, 11);
pub(super) const N2: Ipv4Addr = Ipv4Addr::new(10, 12, 0, 12);

/// A ping from `p1` to `p2` that was seen wherever it should be.
pub(super) struct Journey {
    pub(super) topology: Topology,
    pub(super) expected: Expected,
    pub(super) mark: Mark,
    pub(super) hops: Vec<Hop>,
}

impl Journey {
    pub(super) fn healthy() -> Self {
        let topology = three_nodes(Encapsulation::Always);
        let (one, two) = (topology.party(P1), topology.party(P2));
        let expected = Expected {
            there: topology.path(&one, &two, P2),
            back: topology.path(&two, &one, P1),
        };
        let mark = Mark::new(None);
        let there = expected.there.iter().map(|station| (Leg::There, station));
        let back = expected.back.iter().map(|station| (Leg::Back, station));
        let hops = there
            .chain(back)
            .enumerate()
            .map(|(number, (leg, station))| {
                let frame = frame(&mark, leg, station);
                hop(&mark, station, leg, number as u64, frame)
            });
        let hops = hops.collect();
        Self {
            topology,
            expected,
            mark,
            hops,
        }
    }

    /// The place of a station of the way there: `n1/tunl0`.
    pub(super) fn station(&self, place: &str) -> usize {
        let mut stations = self.expected.there.iter();
        let found = stations.position(|station| short(&station.point) == place);
        found.unwrap_or_else(|| panic!("no station {place}"))
    }

    /// Forgets what was seen from this station of the way there on, and the way back.
    pub(super) fn lost_before(&mut self, place: &str) {
        let station = self.station(place);
        self.hops.truncate(station);
    }

    /// Puts another frame at a station of the way there.
    pub(super) fn put(&mut self, place: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let number = self.station(place);
        let station = self.expected.there[number].clone();
        let mut bytes = frame(&self.mark, Leg::There, &station);
        change(&mut bytes);
        let changed = hop(&self.mark, &station, Leg::There, number as u64, bytes);
        self.hops[number] = changed;
    }

    /// What is wrong first, on the way there.
    pub(super) fn finding(&self) -> Option<super::compare::Finding> {
        compare(Leg::There, &self.expected.there, &self.hops, &mac).finding
    }
}

/// Without the digits of the pods' interfaces.
fn short(point: &Point) -> String {
    let text = point.to_string();
    let cut = text
        .find("/cali")
        .map_or(text.len(), |at| at + "/cali".len());
    text[..cut].to_owned()
}

/// The hardware address that every frame to a device bears here.
pub(super) fn mac(point: &Point) -> Option<[u8; 6]> {
    let sum = point.to_string().bytes().fold(0_u8, u8::wrapping_add);
    Some([2, 0, 0, 0, 0, sum])
}

/// Length of the Ethernet header in front of every packet.
pub(super) const ETHERNET: usize = 14;

/// The frame that should be seen at a station.
fn frame(mark: &Mark, leg: Leg, station: &Station) -> Vec<u8> {
    let (from, to, kind) = match leg {
        Leg::There => (P1, P2, Icmpv4Type::EchoRequest as fn(_) -> _),
        Leg::Back => (P2, P1, Icmpv4Type::EchoReply as fn(_) -> _),
    };
    let mut packet = Vec::new();
    PacketBuilder::ipv4(from.octets(), to.octets(), station.ttl)
        .icmpv4(kind(IcmpEchoHeader { id: 1, seq: 1 }))
        .write(&mut packet, mark.bytes())
        .unwrap();
    if let Some((from, to)) = station.outer {
        packet = wrap(packet, from, to);
    }
    let header = Ethernet2Header {
        source: [2; 6],
        destination: station.frame_to.as_ref().and_then(mac).unwrap_or([2; 6]),
        ether_type: EtherType::IPV4,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend(packet);
    bytes
}

/// One more outer header.
pub(super) fn wrap(packet: Vec<u8>, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let length = packet.len() as u16;
    let (from, to) = (from.octets(), to.octets());
    let outer = Ipv4Header::new(length, 63, IpNumber::IPV4, from, to).unwrap();
    let mut wrapped = Vec::new();
    outer.write(&mut wrapped).unwrap();
    wrapped.extend(packet);
    wrapped
}

fn hop(mark: &Mark, station: &Station, leg: Leg, micros: u64, bytes: Vec<u8>) -> Hop {
    let packet = Packet::decode(LinkType::Ethernet, bytes);
    let after = Duration::from_micros(micros);
    let (_, stack) = mark.recognise(&packet).expect("it bears the mark");
    let captured = Captured {
        time: SystemTime::UNIX_EPOCH + after,
        direction: station.direction,
        device: Arc::from(station.point.to_string()),
        original_length: packet.wire_length(),
        checksum: ChecksumState::Complete,
        packet,
    };
    Hop {
        point: station.point.clone(),
        direction: station.direction,
        leg,
        is_error: false,
        time: captured.time,
        after,
        captured,
        stack,
        addressed: true,
        decision: None,
    }
}

/// A hop at a place that is no station.
pub(super) fn stray(journey: &Journey, like: &str, point: Point, direction: Direction) -> Hop {
    let mut hop = journey.hops[journey.station(like)].clone();
    hop.point = point;
    hop.direction = direction;
    hop
}
