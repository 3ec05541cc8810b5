//! From the evidence to a cause: a pure function.

use std::net::Ipv4Addr;

use super::assemble::Expected;
use super::cause::{Cause, Diagnosis};
use super::compare::{Finding, Problem, at};
use super::evidence::{Evidence, MachineState};
use super::hop::{Decision, Hop, Leg};
use super::point::Point;
use super::probe::Outcome;
use super::topology::{FABRIC, Station, Topology};
use crate::capture::Direction;
use crate::netlink::{
    Link, MacAddress, Neighbour, NeighbourState, Refusal, RouteAnswer, RouteKind,
};

/// What the outer header takes in bytes.
const OUTER: u32 = 20;
/// The gateway of every pod, for which its node answers by proxy ARP.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// A probe that was lost or went wrong.
pub(super) struct Case<'a> {
    pub(super) topology: &'a Topology,
    pub(super) expected: &'a Expected,
    pub(super) finding: &'a Finding,
    /// Both legs.
    pub(super) hops: &'a [Hop],
    pub(super) outcome: &'a Outcome,
    /// Whether it arrived in spite of it.
    pub(super) lost: bool,
    pub(super) evidence: &'a Evidence,
}

impl Case<'_> {
    /// What is wrong.
    pub(super) fn diagnose(&self) -> Diagnosis {
        let (machine, cause) = self.cause();
        Diagnosis {
            leg: self.finding.leg,
            lost: self.lost,
            stretch: self.finding.stretch.clone(),
            machine,
            cause,
            notes: self.notes(),
        }
    }

    /// The stations of the leg.
    fn stations(&self) -> &[Station] {
        match self.finding.leg {
            Leg::There => &self.expected.there,
            Leg::Back => &self.expected.back,
        }
    }

    /// Where it went wrong; `None` behind the last station.
    fn station(&self) -> Option<&Station> {
        self.stations().get(self.finding.station)
    }

    /// The last station before that.
    fn previous(&self) -> Option<&Station> {
        let before = self.finding.station.checked_sub(1)?;
        self.stations().get(before)
    }

    /// The packet as it was last seen where it should be.
    pub(super) fn last(&self) -> Option<&Hop> {
        at(self.previous()?, self.finding.leg, self.hops).next()
    }

    /// The packet where it went wrong, if it was seen there.
    fn here(&self) -> Option<&Hop> {
        at(self.station()?, self.finding.leg, self.hops).next()
    }

    /// The machine on which the last step should have been made.
    fn machine(&self) -> String {
        let finding = self.finding;
        let point = finding.stretch.before.as_ref();
        let point = point.or(finding.stretch.after.as_ref());
        point.map(|point| point.machine.clone()).unwrap_or_default()
    }

    fn cause(&self) -> (String, Cause) {
        let machine = self.machine();
        let cause = match &self.finding.problem {
            Problem::Missing => return self.missing(),
            Problem::Undiscarded { .. } => self.undiscarded(),
            Problem::Plain => Cause::NotEncapsulated,
            Problem::Depth(times) => Cause::Encapsulated {
                times: *times,
                expected: usize::from(self.station().is_some_and(|s| s.outer.is_some())),
            },
            Problem::Outer { expected, found } if expected.1 != found.1 => Cause::WrongNextHop {
                expected: expected.1,
                found: found.1,
            },
            Problem::Outer { expected, found } => Cause::WrongOuterSource {
                expected: expected.0,
                found: found.0,
            },
            Problem::Ttl { expected, found } => Cause::WrongTtl {
                expected: *expected,
                found: *found,
            },
            Problem::Checksum { header } => Cause::WrongChecksum { header },
            Problem::Frame { found, expected } => self.wrong_neighbour(*found, expected),
            Problem::Repeated(times) => Cause::Duplicated { times: *times },
            Problem::Detour(point) => Cause::Detour {
                point: point.clone(),
            },
        };
        (machine, cause)
    }

    /// An address that nobody has was not thrown away by its node.
    fn undiscarded(&self) -> Cause {
        let Some(decision) = &self.evidence.decision else {
            return Cause::Unknown;
        };
        let destination = self
            .last()
            .and_then(Hop::inner)
            .map(|header| header.destination);
        let block = destination.and_then(|address| self.topology.block_of(address));
        match block {
            Some(block) => Cause::BlackholeMissing {
                block,
                instead: decision.route.clone(),
            },
            None => Cause::Unknown,
        }
    }

    fn wrong_neighbour(&self, found: [u8; 6], expected: &Point) -> Cause {
        let found = MacAddress(found);
        let entry = self.station().and_then(|station| {
            let state = self.evidence.machine(&station.point.machine)?;
            let mut known = state.neighbours.iter();
            known.find(|entry| entry.interface == station.point.device && entry.mac == Some(found))
        });
        let next_hop = self.station().and_then(|station| station.next_hop);
        Cause::WrongNeighbour {
            address: entry.map(|entry: &Neighbour| entry.address).or(next_hop),
            found,
            expected: expected.clone(),
            state: entry.map(|entry| entry.state),
        }
    }

    /// It was not seen at a station: what is certain comes first.
    fn missing(&self) -> (String, Cause) {
        let machine = self.machine();
        if let Some(verdict) = self.evidence.verdicts.first() {
            return (verdict.machine.clone(), Cause::Filtered(verdict.clone()));
        }
        let Some(station) = self.station() else {
            let cause = self.routing(None).unwrap_or(Cause::Unknown);
            return (machine, cause);
        };
        if let Some(cause) = self.broken_link(&station.point) {
            return (machine, cause);
        }
        let previous = self.previous();
        if let Some(previous) = previous
            && let Some(cause) = self.broken_link(&previous.point)
        {
            return (previous.point.machine.clone(), cause);
        }
        let cause = match previous {
            Some(previous) if previous.point.machine != station.point.machine => {
                self.too_big(&station.point)
            }
            Some(previous) if self.is_bridged(&previous.point, &station.point) => {
                self.too_big(&station.point)
            }
            Some(previous) if previous.outer.is_none() && station.outer.is_some() => {
                Some(self.not_encapsulated(previous, station))
            }
            Some(previous) if previous.outer.is_some() && station.outer.is_none() => {
                Some(Cause::NotDecapsulated)
            }
            _ => self.routing(Some(station)),
        };
        let cause = cause.or_else(|| self.kernel_says());
        (machine, cause.unwrap_or(Cause::Unknown))
    }

    fn kernel_says(&self) -> Option<Cause> {
        let reason = self.evidence.drops.first()?;
        Some(Cause::Dropped {
            reason: reason.clone(),
        })
    }

    fn broken_link(&self, point: &Point) -> Option<Cause> {
        let machine = self.evidence.machine(&point.machine)?;
        let device = point.clone();
        match machine.link(&point.device) {
            None => Some(Cause::NoDevice { device }),
            Some(Link { up: false, .. } | Link { running: false, .. }) => {
                Some(Cause::LinkDown { device })
            }
            Some(_) => None,
        }
    }

    /// Both are ports of one bridge.
    fn is_bridged(&self, one: &Point, other: &Point) -> bool {
        let master = |point| self.evidence.link(point).and_then(|link| link.master);
        one.machine == FABRIC && master(one).is_some() && master(one) == master(other)
    }

    fn too_big(&self, device: &Point) -> Option<Cause> {
        let length = self.last()?.length();
        let mtu = self.evidence.link(device)?.mtu;
        (length > mtu as usize).then(|| Cause::TooBig {
            device: device.clone(),
            mtu,
            length,
        })
    }

    /// It went into the tunnel of `tunnel`, and nothing came out of `underlay`.
    fn not_encapsulated(&self, tunnel: &Station, underlay: &Station) -> Cause {
        let fits = self
            .evidence
            .link(&underlay.point)
            .map(|link| link.mtu - OUTER);
        let length = self.last().map_or(0, Hop::length);
        if let Some(fits) = fits
            && length > fits as usize
        {
            let link = self.evidence.link(&tunnel.point);
            return Cause::MtuTooLarge {
                device: tunnel.point.device.clone(),
                mtu: link.map_or(0, |link| link.mtu),
                fits,
            };
        }
        let Some(decision) = &self.evidence.outer_decision else {
            return Cause::NotEncapsulated;
        };
        let to = underlay.outer.map_or(Ipv4Addr::UNSPECIFIED, |(_, to)| to);
        self.judge(decision, Some(underlay), to, None)
            .unwrap_or(Cause::NotEncapsulated)
    }

    /// A machine had to send it on.
    fn routing(&self, station: Option<&Station>) -> Option<Cause> {
        let decision = self.evidence.decision.as_ref();
        let last = self.last();
        let header = last.and_then(|hop| hop.headers().next());
        let destination = match header {
            Some(header) => header.destination,
            None => self.evidence.destination?,
        };
        let incoming = last
            .filter(|hop| hop.direction == Direction::Incoming)
            .map(|hop| hop.point.device.as_str());
        let judged =
            decision.and_then(|decision| self.judge(decision, station, destination, incoming));
        if let Some(cause) = judged {
            return Some(cause);
        }
        if header.is_some_and(|header| header.ttl <= 1) && incoming.is_some() {
            return Some(Cause::TtlExpired);
        }
        match (self.outcome, station) {
            (Outcome::NotSent { errno }, Some(station)) if *errno == nix::libc::EMSGSIZE => {
                let mtu = self.evidence.link(&station.point)?.mtu;
                Some(Cause::TooBig {
                    device: station.point.clone(),
                    mtu,
                    length: self.evidence.size,
                })
            }
            (Outcome::NotSent { errno }, _) => Some(Cause::NotSent { errno: *errno }),
            (_, Some(station)) => self.too_big(&station.point),
            _ => None,
        }
    }

    /// What is wrong with a machine's decision; `None` when it is as it should be.
    fn judge(
        &self,
        decision: &Decision,
        station: Option<&Station>,
        destination: Ipv4Addr,
        incoming: Option<&str>,
    ) -> Option<Cause> {
        let name = self.machine();
        let state = self.evidence.machine(&name)?;
        let (device, gateway) = match &decision.route {
            RouteAnswer::Refused(refusal) => {
                return Some(refused(state, *refusal, destination, incoming));
            }
            RouteAnswer::Local => return None,
            RouteAnswer::Forward {
                device, gateway, ..
            } => (device, gateway),
        };
        let station = station?;
        let next_hop = gateway.unwrap_or(destination);
        if *device != station.point.device {
            return Some(self.other_device(&decision.route, station, destination));
        }
        if let Some(expected) = station.next_hop
            && expected != next_hop
            && next_hop != POD_GATEWAY
        {
            let found = next_hop;
            return Some(Cause::WrongNextHop { expected, found });
        }
        let resolves = state.link(device).is_some_and(|link| link.arp);
        let answered = decision.neighbour.as_ref().is_some_and(|entry| {
            let state = entry.state;
            state != NeighbourState::Failed && state != NeighbourState::Incomplete
        });
        if resolves && !answered {
            return Some(Cause::NeighbourUnanswered {
                address: next_hop,
                device: device.clone(),
                proxy_arp_off: self.proxy_arp_off(station, next_hop),
            });
        }
        None
    }

    fn other_device(&self, found: &RouteAnswer, station: &Station, destination: Ipv4Addr) -> Cause {
        let block = self.topology.block_of(destination);
        let matched = match found {
            RouteAnswer::Forward { matched, .. } => matched.as_ref(),
            _ => None,
        };
        if let (Some(block), Some(matched)) = (block, matched)
            && matched.destination.prefix_len() < block.prefix_len()
        {
            let instead = found.clone();
            return Cause::RouteMissing { block, instead };
        }
        if station.point.device == self.topology.tunnel {
            return Cause::AroundTunnel {
                route: found.clone(),
            };
        }
        Cause::WrongDevice {
            expected: station.point.device.clone(),
            found: found.clone(),
        }
    }

    /// The device that does not answer for the pods' gateway.
    fn proxy_arp_off(&self, station: &Station, next_hop: Ipv4Addr) -> Option<Point> {
        let point = station
            .frame_to
            .as_ref()
            .filter(|_| next_hop == POD_GATEWAY)?;
        let state = self.evidence.machine(&point.machine)?;
        let own = format!("conf/{}/proxy_arp", point.device);
        let off = state.is_off(&own) && !state.is_on("conf/all/proxy_arp");
        off.then(|| point.clone())
    }

    /// What else was seen.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match self.outcome {
            Outcome::Reported { from, message } => {
                notes.push(format!("{from} reported {message:?}"));
            }
            Outcome::NotSent { errno } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                notes.push(format!("the sender's kernel said: {error}"));
            }
            Outcome::Answered | Outcome::Silence => {}
        }
        if let Some(decision) = &self.evidence.decision {
            notes.push(format!("{} decides: {decision}", self.machine()));
        }
        let unanswered = self.evidence.unanswered.iter();
        notes.extend(
            unanswered.map(|(point, address)| format!("{point}: nobody answered for {address}")),
        );
        notes.extend(self.evidence.counters.iter().map(ToString::to_string));
        let drops = self.evidence.drops.iter();
        notes.extend(
            drops.map(|reason| format!("the kernel dropped a packet at that time: {reason}")),
        );
        notes.extend(self.evidence.notes.iter().cloned());
        let wrong = self
            .here()
            .filter(|_| self.finding.problem != Problem::Missing);
        notes.extend(wrong.map(|hop| format!("seen: {hop}")));
        notes
    }
}

/// Why the look-up of a machine refuses a packet.
fn refused(
    state: &MachineState,
    refusal: Refusal,
    destination: Ipv4Addr,
    incoming: Option<&str>,
) -> Cause {
    if let Some(device) = incoming {
        let own = format!("conf/{device}/forwarding");
        for parameter in ["ip_forward", own.as_str()] {
            if state.is_off(parameter) {
                return Cause::ForwardingOff {
                    parameter: parameter.to_owned(),
                };
            }
        }
        if refusal == Refusal::ReversePath {
            return Cause::ReversePath {
                device: device.to_owned(),
            };
        }
    }
    match state.route_to(destination) {
        Some(route) if !matches!(route.kind, RouteKind::Unicast) => Cause::RouteRefuses {
            destination: route.destination,
            kind: route.kind,
        },
        // A way there is known, so it is the way back that is not.
        Some(_) if refusal == Refusal::Invalid && incoming.is_some() => Cause::ReversePath {
            device: incoming.unwrap_or_default().to_owned(),
        },
        _ => Cause::NoRoute {
            destination,
            refusal,
        },
    }
}
