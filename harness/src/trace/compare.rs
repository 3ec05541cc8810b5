//! What was seen against what should have been: a pure function.

use std::net::Ipv4Addr;

use super::hop::{Hop, Leg};
use super::point::{Point, Stretch};
use super::topology::Station;
use crate::capture::Direction;
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
    /// It was seen on a machine that is not on its way.
    Detour(Point),
    /// It was to be dropped here, and was sent on.
    Undiscarded { at: Point },
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
    if finding.is_none() {
        finding = detour(leg, stations, hops);
    }
    let arrived = stations
        .last()
        .is_none_or(|last| at(last, leg, hops).next().is_some());
    Comparison { arrived, finding }
}

/// The first hop on a machine that has nothing to do with the path.
fn detour(leg: Leg, stations: &[Station], hops: &[Hop]) -> Option<Finding> {
    let on_path = |hop: &Hop| {
        let mut machines = stations.iter().map(|station| &station.point.machine);
        machines.any(|machine| *machine == hop.point.machine)
    };
    let mut strays = hops
        .iter()
        .filter(|hop| hop.leg == leg && !hop.is_error && hop.addressed && !on_path(hop));
    // Both directions of `lo` and the like belong to the ends.
    let stray = strays.find(|hop| hop.direction == Direction::Incoming)?;
    let before = stations.iter().rposition(|station| {
        let mut seen = at(station, leg, hops);
        seen.any(|hop| hop.time <= stray.time)
    });
    Some(Finding {
        leg,
        station: before.map_or(0, |number| number + 1),
        stretch: Stretch {
            after: before.map(|number| stations[number].point.clone()),
            before: Some(stray.point.clone()),
        },
        problem: Problem::Detour(stray.point.clone()),
    })
}

/// A packet to an address that nobody has: its way ends at the last station.
pub(super) fn undiscarded(stations: &[Station], hops: &[Hop]) -> Option<Finding> {
    let last = stations.last()?;
    let arrived = at(last, Leg::There, hops).next()?.time;
    let sent_on = hops.iter().find(|hop| {
        hop.leg == Leg::There
            && !hop.is_error
            && hop.time >= arrived
            && hop.point.machine == last.point.machine
            && hop.direction == Direction::Outgoing
    })?;
    Some(Finding {
        leg: Leg::There,
        station: stations.len(),
        stretch: Stretch {
            after: Some(last.point.clone()),
            before: Some(sent_on.point.clone()),
        },
        problem: Problem::Undiscarded {
            at: sent_on.point.clone(),
        },
    })
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
