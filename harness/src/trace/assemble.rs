//! From what the taps saw to a verdict.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::compare::{Comparison, compare};
use super::endpoint::Found;
use super::hop::{Hop, Leg};
use super::point::Point;
use super::probe::{Outcome, ProbeKind};
use super::topology::{Station, Topology};
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
        let mac = |point: &Point| macs.get(point).copied();
        let there = compare(Leg::There, &expected.there, &hops, &mac);
        let back = compare(Leg::Back, &expected.back, &hops, &mac);
        let verdict = judge(&there, &back, &outcome);
        let finding = match verdict {
            Verdict::Delivered => None,
            Verdict::Lost(Leg::There) | Verdict::Anomalous(Leg::There) => there.finding,
            // Where the way there was wrong as well, that came first.
            Verdict::Lost(Leg::Back) | Verdict::Anomalous(Leg::Back) => {
                there.finding.or(back.finding)
            }
        };
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
        };
        (trace, expected)
    }
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
