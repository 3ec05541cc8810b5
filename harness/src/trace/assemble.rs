//! From what the taps saw to a verdict.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::compare::{Comparison, Finding, Problem, compare, undiscarded};
use super::endpoint::Found;
use super::hop::{Hop, Leg};
use super::point::{Point, Stretch};
use super::probe::{Outcome, ProbeKind};
use super::topology::{Party, Station, Topology};
use super::{Trace, Verdict};

/// What a probe was, and between whom.
pub(super) struct Probe<'a> {
    pub(super) kind: ProbeKind,
    pub(super) from: &'a Found,
    pub(super) to: &'a Found,
    pub(super) outcome: Outcome,
    pub(super) hops: Vec<Hop>,
}

/// The stations of both legs.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    pub(super) there: Vec<Station>,
    pub(super) back: Vec<Station>,
}

impl Probe<'_> {
    /// The trace of this probe, apart from what the machines have to be asked for.
    pub(super) fn assemble(
        self,
        topology: &Topology,
        macs: &BTreeMap<Point, [u8; 6]>,
    ) -> (Trace, Expected) {
        let Self {
            kind,
            from,
            to,
            outcome,
            mut hops,
        } = self;
        if matches!(kind, ProbeKind::Udp { .. }) && outcome == Outcome::Answered {
            // "Port unreachable" of the target is its answer.
            for hop in &mut hops {
                let by_target = hop
                    .inner()
                    .is_some_and(|header| header.source == to.address);
                hop.is_error &= !by_target;
            }
        }
        let expected = Expected {
            there: topology.path(&from.party, &to.party, to.address),
            back: topology.path(&to.party, &from.party, source(&hops, from)),
        };
        in_order(&mut hops, &expected);
        let mac = |point: &Point| macs.get(point).copied();
        let mut there = compare(Leg::There, &expected.there, &hops, &mac);
        let mut back = compare(Leg::Back, &expected.back, &hops, &mac);
        if let Some(finding) = &mut back.finding {
            // The answer begins where the probe ended.
            let end = expected.there.last().map(|station| station.point.clone());
            finding.stretch.after = finding.stretch.after.take().or(end);
        }
        let verdict = match to.party {
            Party::Unassigned(_) => {
                // It must arrive at the node of the block, and go no further.
                let stray = |finding: &Finding| matches!(finding.problem, Problem::Detour(_));
                there.finding = match there.finding {
                    Some(finding) if !stray(&finding) => Some(finding),
                    _ => end(&expected.there, &hops),
                };
                match &there.finding {
                    Some(finding) if finding.problem != Problem::Missing => {
                        Verdict::Anomalous(Leg::There)
                    }
                    _ => Verdict::Lost(Leg::There),
                }
            }
            _ => judge(&there, &back, &outcome),
        };
        let finding = match verdict {
            Verdict::Delivered => None,
            Verdict::Lost(Leg::There) | Verdict::Anomalous(Leg::There) => there.finding,
            // Where the way there was wrong as well, that came first.
            Verdict::Lost(Leg::Back) | Verdict::Anomalous(Leg::Back) => {
                there.finding.or(back.finding)
            }
        };
        let finding = finding.or_else(|| match verdict {
            Verdict::Lost(Leg::Back) => unheard(&expected.back),
            _ => None,
        });
        let (there, back) = hops.into_iter().partition(|hop| hop.leg == Leg::There);
        let trace = Trace {
            from: from.name.clone(),
            to: to.name.clone(),
            what: kind.to_string(),
            there,
            back,
            outcome,
            verdict,
            finding,
            diagnosis: None,
            lossy_taps: Vec::new(),
            recordings: Vec::new(),
        };
        (trace, expected)
    }
}

/// Puts hops of one time stamp in the order of the way. A packet that comes out of a tunnel keeps the
/// stamp that it got at the underlay device, so time alone does not say which came first.
pub(super) fn in_order(hops: &mut [Hop], expected: &Expected) {
    let place = |hop: &Hop| {
        let stations = match hop.leg {
            Leg::There => &expected.there,
            Leg::Back => &expected.back,
        };
        let mut stations = stations.iter();
        let own = stations
            .position(|station| station.point == hop.point && station.direction == hop.direction);
        (hop.leg == Leg::Back, own.unwrap_or(usize::MAX))
    };
    hops.sort_by_key(|hop| (hop.time, place(hop)));
}

/// The address that the answer goes to: the source that was seen last, for a node on the way may
/// have put in its own.
fn source(hops: &[Hop], from: &Found) -> Ipv4Addr {
    let mut there = hops
        .iter()
        .filter(|hop| hop.leg == Leg::There && !hop.is_error && hop.addressed);
    let last = there.next_back().and_then(Hop::inner);
    last.map_or(from.address, |header| header.source)
}

/// The answer came to the last device, and its receiver did not get it.
fn unheard(stations: &[Station]) -> Option<Finding> {
    Some(behind(stations.last()?, stations.len()))
}

/// Lost behind the last station.
fn behind(last: &Station, station: usize) -> Finding {
    Finding {
        leg: Leg::Back,
        station,
        stretch: Stretch {
            after: Some(last.point.clone()),
            before: None,
        },
        problem: Problem::Missing,
    }
}

/// The end of the way to an address that nobody has.
fn end(stations: &[Station], hops: &[Hop]) -> Option<Finding> {
    undiscarded(stations, hops).or_else(|| {
        let finding = behind(stations.last()?, stations.len());
        Some(Finding {
            leg: Leg::There,
            ..finding
        })
    })
}

fn judge(there: &Comparison, back: &Comparison, outcome: &Outcome) -> Verdict {
    let answered = *outcome == Outcome::Answered;
    match (there.arrived, answered && back.arrived) {
        (false, false) => Verdict::Lost(Leg::There),
        (true, false) => Verdict::Lost(Leg::Back),
        // Answered although it was not seen where it should have arrived.
        (false, true) => Verdict::Anomalous(Leg::There),
        (true, true) if there.finding.is_some() => Verdict::Anomalous(Leg::There),
        (true, true) if back.finding.is_some() => Verdict::Anomalous(Leg::Back),
        (true, true) => Verdict::Delivered,
    }
}
