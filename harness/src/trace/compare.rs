//! What was seen against what should have been: a pure function.

use std::net::Ipv4Addr;

use super::hop::{Hop, Leg};
use super::point::{Point, Stretch};
use super::topology::Station;
use crate::packet::{ChecksumVerdict, Transport};

/// What is wrong at a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The packet was not seen there.
    Missing,
    /// It should have been encapsulated and was not.
    Plain,
    /// It had so many outer headers instead of one or none.
    Depth(usize),
    /// Its outer addresses are others.
    Outer {
        expected: (Ipv4Addr, Ipv4Addr),
        found: (Ipv4Addr, Ipv4Addr),
    },
    /// The ttl of its innermost header is another.
    Ttl { expected: u8, found: u8 },
    /// A checksum is wrong; of this header.
    Checksum { header: &'static str },
    /// Its frame bears the hardware address of somebody else.
    Frame { found: [u8; 6], expected: Point },
    /// It was seen so many times.
    Repeated(usize),
}

/// The first station at which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) leg: Leg,
    /// The place of the station in the path.
    pub(super) station: usize,
    pub(super) stretch: Stretch,
    pub(super) problem: Problem,
}

/// One leg, compared.
#[derive(Debug, Clone, Default)]
pub(super) struct Comparison {
    /// The packet was seen at the last station.
    pub(super) arrived: bool,
    pub(super) finding: Option<Finding>,
}

/// The hardware address of a device, where it is known.
pub(super) type Macs<'a> = &'a dyn Fn(&Point) -> Option<[u8; 6]>;

/// Compares the hops of one leg with its stations.
pub(super) fn compare(leg: Leg, stations: &[Station], hops: &[Hop], macs: Macs<'_>) -> Comparison {
    let mut after = None;
    let mut finding = None;
    for (number, station) in stations.iter().enumerate() {
        let problem = problem_at(station, leg, hops, macs);
        if let Some(problem) = problem {
            finding = Some(Finding {
                leg,
                station: number,
                stretch: Stretch {
                    after: after.clone(),
                    before: Some(station.point.clone()),
                },
                problem,
            });
            break;
        }
        after = Some(station.point.clone());
    }
    let arrived = stations
        .last()
        .is_none_or(|last| at(last, leg, hops).next().is_some());
    Comparison { arrived, finding }
}

/// The hops of a leg that are a station's.
pub(super) fn at<'a>(
    station: &'a Station,
    leg: Leg,
    hops: &'a [Hop],
) -> impl Iterator<Item = &'a Hop> {
    hops.iter().filter(move |hop| {
        hop.leg == leg
            && !hop.is_error
            && hop.addressed
            && hop.point == station.point
            && hop.direction == station.direction
    })
}

fn problem_at(station: &Station, leg: Leg, hops: &[Hop], macs: Macs<'_>) -> Option<Problem> {
    let mut here = at(station, leg, hops);
    let Some(hop) = here.next() else {
        return Some(Problem::Missing);
    };
    let more = here.count();
    match (station.outer, hop.depth()) {
        (Some(_), 0) => return Some(Problem::Plain),
        (Some(_), 1) | (None, 0) => {}
        (_, depth) => return Some(Problem::Depth(depth)),
    }
    if let (Some(expected), Some(outer)) = (station.outer, hop.outer()) {
        let found = (outer.source, outer.destination);
        if found != expected {
            return Some(Problem::Outer { expected, found });
        }
    }
    if let Some(inner) = hop.inner()
        && inner.ttl != station.ttl
    {
        let (expected, found) = (station.ttl, inner.ttl);
        return Some(Problem::Ttl { expected, found });
    }
    if let Some(header) = wrong_checksum(hop) {
        return Some(Problem::Checksum { header });
    }
    if let Some(to) = &station.frame_to
        && let Some(ethernet) = hop.captured.packet.ethernet()
        && let Some(mac) = macs(to)
        && mac != ethernet.destination
    {
        return Some(Problem::Frame {
            found: ethernet.destination,
            expected: to.clone(),
        });
    }
    (more > 0).then_some(Problem::Repeated(more + 1))
}

/// The header whose checksum is wrong; what is left to the hardware is not.
fn wrong_checksum(hop: &Hop) -> Option<&'static str> {
    if hop.headers().any(|header| !header.checksum_correct) {
        return Some("IPv4");
    }
    let innermost = hop.stack.last()?;
    match innermost.transport_checksum(hop.captured.checksum)? {
        ChecksumVerdict::Wrong { .. } => Some(match innermost.transport()? {
            Transport::Icmp(_) => "ICMP",
            Transport::Tcp(_) => "TCP",
            Transport::Udp(_) => "UDP",
        }),
        _ => None,
    }
}
