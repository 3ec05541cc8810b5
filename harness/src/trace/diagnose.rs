//! From the evidence to a cause: a pure function.

use std::net::Ipv4Addr;

use super::assemble::Expected;
use super::cause::{Cause, Diagnosis};
use super::compare::{Finding, Problem, at};
use super::evidence::{Evidence, Moved};
use super::hop::{Decision, Hop, Leg};
use super::point::Point;
use super::probe::Outcome;
use super::refused::Refused;
use super::topology::{FABRIC, Station, Topology};
use crate::capture::Direction;
use crate::netlink::{Link, MacAddress, Neighbour, NeighbourState, Refusal, RouteAnswer};

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
    pub(super) fn stations(&self) -> &[Station] {
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
    pub(super) fn machine(&self) -> String {
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
            Problem::Outer { expected, found } if expected.1 != found.1 => {
                return self.other_peer(expected.1, found.1);
            }
            Problem::Outer { expected, found } => Cause::WrongOuterSource {
                expected: expected.0,
                found: found.0,
            },
            Problem::Ttl { expected, found } => Cause::WrongTtl {
                expected: *expected,
                found: *found,
            },
            Problem::Checksum { header } => Cause::WrongChecksum { header },
            Problem::Frame { found, expected } => self
                .other_next_hop()
                .unwrap_or_else(|| self.wrong_neighbour(*found, expected)),
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

    /// The frame bears the hardware address of another next hop, because the route names that one.
    fn other_next_hop(&self) -> Option<Cause> {
        let station = self.station()?;
        let (decision, destination) = match station.outer {
            Some((_, to)) => (self.evidence.outer_decision.as_ref()?, to),
            None => {
                let header = self.last().and_then(Hop::inner);
                let destination = header.map(|header| header.destination);
                let decision = self.evidence.decision.as_ref()?;
                (decision, destination.or(self.evidence.destination)?)
            }
        };
        self.misrouted(&decision.route, station, destination)
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
            Some(previous) if previous.outer.is_some() != station.outer.is_some() => {
                if let Some(misled) = self.misled() {
                    return misled;
                }
                Some(match station.outer {
                    Some(_) => self.not_encapsulated(previous, station),
                    None => Cause::NotDecapsulated,
                })
            }
            _ => self.routing(Some(station)),
        };
        if let Some(Cause::NeighbourUnanswered { address, .. }) = &cause
            && let Some(rule) = self.rule_against_asking(station, *address)
        {
            return rule;
        }
        match cause.or_else(|| self.kernel_says()) {
            Some(cause) => (machine, cause),
            None => self.kernel_counts().unwrap_or((machine, Cause::Unknown)),
        }
    }

    fn kernel_says(&self) -> Option<Cause> {
        let reason = self.evidence.drops.first()?;
        Some(Cause::Dropped {
            reason: reason.clone(),
        })
    }

    /// The counters of the machine that should have had it next, or else of the one that had it
    /// last: others may have lost something else.
    fn kernel_counts(&self) -> Option<(String, Cause)> {
        let stretch = &self.finding.stretch;
        let ends = stretch.before.iter().chain(&stretch.after);
        let mut counted = ends.map(|end| {
            let counters = self.evidence.counters.iter();
            let own = counters.filter(|moved| moved.machine == end.machine);
            (end.machine.clone(), own.cloned().collect::<Vec<Moved>>())
        });
        let (machine, moved) = counted.find(|(_, moved)| !moved.is_empty())?;
        Some((machine, Cause::Counted { moved }))
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
                // What is made here has not come in, and its source is chosen later.
                let came_in = self.last().filter(|_| incoming.is_some());
                let source = came_in.and_then(|hop| hop.headers().next());
                let packet = Refused {
                    refusal: *refusal,
                    source: source.map(|header| header.source),
                    destination,
                    incoming,
                };
                return Some(packet.by(state));
            }
            RouteAnswer::Local => return None,
            RouteAnswer::Forward {
                device, gateway, ..
            } => (device, gateway),
        };
        let station = station?;
        if let Some(cause) = self.misrouted(&decision.route, station, destination) {
            return Some(cause);
        }
        let next_hop = gateway.unwrap_or(destination);
        let resolves = state.link(device).is_some_and(|link| link.arp);
        let unanswered = match &decision.neighbour {
            Some(entry) => matches!(
                entry.state,
                NeighbourState::Failed | NeighbourState::Incomplete
            ),
            // Where nobody asked there is no entry, either.
            None => {
                let asked = (Point::new(name, device), next_hop);
                self.evidence.unanswered.contains(&asked)
            }
        };
        if resolves && unanswered {
            return Some(Cause::NeighbourUnanswered {
                address: next_hop,
                device: device.clone(),
                proxy_arp_off: self.proxy_arp_off(station, next_hop),
            });
        }
        None
    }

    /// The route leads elsewhere than to the station, or by another next hop.
    fn misrouted(
        &self,
        found: &RouteAnswer,
        station: &Station,
        destination: Ipv4Addr,
    ) -> Option<Cause> {
        let RouteAnswer::Forward {
            device,
            gateway,
            matched,
        } = found
        else {
            return None;
        };
        let next_hop = gateway.unwrap_or(destination);
        let expected = station.next_hop.unwrap_or(next_hop);
        let other_device = *device != station.point.device;
        if !other_device && (next_hop == expected || next_hop == POD_GATEWAY) {
            return None;
        }
        let block = self.topology.block_of(destination);
        if let (Some(block), Some(matched)) = (block, matched)
            && matched.destination.prefix_len() < block.prefix_len()
        {
            let instead = found.clone();
            return Some(Cause::RouteMissing { block, instead });
        }
        Some(match other_device {
            true => self.other_device(found, station),
            false => Cause::WrongNextHop {
                expected,
                found: next_hop,
            },
        })
    }

    fn other_device(&self, found: &RouteAnswer, station: &Station) -> Cause {
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

    /// A node answers for the pods' gateway only where it would let through whoever asks.
    fn rule_against_asking(
        &self,
        station: &Station,
        next_hop: Ipv4Addr,
    ) -> Option<(String, Cause)> {
        let node = station
            .frame_to
            .as_ref()
            .filter(|_| next_hop == POD_GATEWAY)?;
        let question = Refused {
            refusal: Refusal::Unreachable,
            source: self.topology.address_of(&station.point.machine),
            destination: next_hop,
            incoming: Some(&node.device),
        };
        let rule = question.rule(self.evidence.machine(&node.machine)?)?;
        let rule = Box::new(rule.clone());
        Some((node.machine.clone(), Cause::RuleRefuses { rule }))
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
