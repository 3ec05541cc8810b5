//! One trace at work: a sender, the taps, and as many probes as it takes.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::assemble::{Expected, Probe};
use super::compare::{Finding, Problem};
use super::diagnose::Case;
use super::endpoint::{Endpoint, Found};
use super::evidence::nft_trace::Pattern;
use super::evidence::{Evidence, collect};
use super::hop::{Hop, Leg};
use super::instruments::Instruments;
use super::mark::Mark;
use super::probe::{ProbeKind, Prober};
use super::taps::Taps;
use super::topology::Topology;
use super::{Trace, TraceError, Verdict, decide};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::event::{How, Protocol};
use crate::machine::Machine;
use crate::netlink::Flow;

/// What is probed with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) kind: ProbeKind,
    /// Length of the IPv4 packet in bytes.
    pub(super) size: usize,
    pub(super) dont_fragment: bool,
    /// How many probes at most, one after the other.
    pub(super) probes: usize,
    pub(super) within: Duration,
}

/// IPv4 header and that of ICMP or UDP, in bytes.
const HEADERS: usize = 28;

/// See the module.
pub(super) struct Session<'a> {
    cluster: &'a Cluster,
    topology: Topology,
    from: Found,
    to: Found,
    sender: Machine,
    settings: Settings,
    prober: Prober,
    taps: Taps,
}

/// One probe, and what became of it.
struct Attempt {
    trace: Trace,
    expected: Expected,
}

impl<'a> Session<'a> {
    pub(super) async fn open(
        cluster: &'a Cluster,
        from: Endpoint,
        to: Endpoint,
        settings: Settings,
    ) -> Result<Self, Error> {
        let topology = cluster.topology().await;
        let from = from.find(cluster, &topology).await?;
        let to = to.find(cluster, &topology).await?;
        let sender = from.sender()?.clone();
        let prober = Prober::open(
            &sender,
            settings.kind,
            from.source,
            to.address,
            settings.dont_fragment,
        )?;
        let prober = prober.map_err(|source| failed(&sender, source))?;
        let path = topology.path(&from.party, &to.party, to.address);
        let concerned: BTreeSet<String> = path
            .iter()
            .map(|station| station.point.machine.clone())
            .collect();
        let ends = [&from, &to].into_iter();
        let ends: Vec<_> = ends.filter_map(|end| end.machine.clone()).collect();
        let taps = Taps::open(cluster, &ends, &concerned).await?;
        Ok(Self {
            cluster,
            topology,
            from,
            to,
            sender,
            settings,
            prober,
            taps,
        })
    }

    /// Probes until one goes wrong, or there were enough; one event of the cluster's log.
    pub(super) async fn run(self) -> Result<Trace, Error> {
        let port = match self.settings.kind {
            ProbeKind::Icmp => None,
            ProbeKind::Tcp { port } | ProbeKind::Udp { port } => Some(port),
        };
        let (log, sender) = (self.cluster.events().clone(), self.sender.name().to_owned());
        let Settings {
            size,
            dont_fragment,
            ..
        } = self.settings;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let how = How::by(Protocol::Trace)
            .port(port)
            .size(number(size.saturating_sub(HEADERS)))
            .dont_fragment(dont_fragment);
        let record = log.probe(sender, self.to.address, how);
        let result = self.follow().await;
        match &result {
            Ok(trace) => match trace.diagnosis() {
                None => record.answered(trace.verdict().to_string()),
                Some(diagnosis) => record.failed(diagnosis),
            },
            Err(error) => record.failed(error),
        }
        result
    }

    async fn follow(self) -> Result<Trace, Error> {
        let mut mark = self.settings.kind.mark();
        let mut attempt = self.attempt(&mark).await?;
        for _ in 1..self.settings.probes {
            if attempt.trace.finding.is_some() {
                break;
            }
            mark = mark.next();
            attempt = self.attempt(&mark).await?;
        }
        let mut evidence = Evidence::default();
        if let Some(finding) = attempt.trace.finding.clone() {
            attempt = self
                .look_closer(attempt, &finding, mark, &mut evidence)
                .await?;
        }
        let Attempt {
            mut trace,
            expected,
        } = attempt;
        decide::ask(self.cluster, &mut trace).await?;
        if let Some(finding) = trace.finding.clone() {
            self.collect(&trace, &expected, &finding, &mut evidence)
                .await?;
            let hops: Vec<Hop> = trace.there.iter().chain(&trace.back).cloned().collect();
            let case = Case {
                topology: &self.topology,
                expected: &expected,
                finding: &finding,
                hops: &hops,
                outcome: &trace.outcome,
                lost: matches!(trace.verdict, Verdict::Lost(_)),
                evidence: &evidence,
            };
            trace.diagnosis = Some(case.diagnose());
        }
        for (point, recording) in self.taps.stop().await? {
            if recording.dropped > 0 {
                trace.lossy_taps.push((point, recording.dropped));
            }
            trace.recordings.push(recording);
        }
        Ok(trace)
    }

    async fn attempt(&self, mark: &Mark) -> Result<Attempt, Error> {
        let Settings {
            kind, size, within, ..
        } = self.settings;
        let sent = self.prober.send(mark, size, within).await;
        let probe = Probe {
            kind,
            from: &self.from,
            to: &self.to,
            outcome: sent.map_err(|source| failed(&self.sender, source))?,
            hops: self.taps.hops(mark),
        };
        let (trace, expected) = probe.assemble(&self.topology, self.taps.macs());
        Ok(Attempt { trace, expected })
    }

    /// A probe was lost: sends others with everything on that may tell why, until one is lost at
    /// the same place.
    async fn look_closer(
        &self,
        first: Attempt,
        finding: &Finding,
        mut mark: Mark,
        evidence: &mut Evidence,
    ) -> Result<Attempt, Error> {
        if finding.problem != Problem::Missing {
            return Ok(first);
        }
        let machines = self.machines(finding, &first.expected);
        // Where one in so many is lost, so many may have to be sent.
        let count = match self.settings.probes {
            1 => 1,
            several => 2 * several,
        };
        let (offset, bytes) = mark.of_series();
        let pattern = Pattern { offset, bytes };
        let instruments = Instruments::start(&machines, &pattern).await?;
        let mut again = None;
        for _ in 0..count {
            mark = mark.next();
            let attempt = self.attempt(&mark).await?;
            if attempt.trace.finding.as_ref() == Some(finding) {
                again = Some(attempt);
                break;
            }
        }
        let seen = again
            .as_ref()
            .and_then(|attempt| last_seen(attempt, finding));
        instruments.finish(seen, evidence).await?;
        if again.is_none() {
            let note = "another probe was not lost there; the evidence is of the first alone";
            evidence.notes.push(note.to_owned());
        }
        Ok(again.unwrap_or(first))
    }

    /// The machines whose state matters for a finding.
    fn machines(&self, finding: &Finding, expected: &Expected) -> Vec<Machine> {
        let stretch = &finding.stretch;
        let ends = stretch.after.iter().chain(&stretch.before);
        let mut names: BTreeSet<&str> = ends.map(|point| point.machine.as_str()).collect();
        let stations = match finding.leg {
            Leg::There => &expected.there,
            Leg::Back => &expected.back,
        };
        // Whoever should have answered for the next hop.
        let station = stations.get(finding.station);
        let receiver = station.and_then(|station| station.frame_to.as_ref());
        names.extend(receiver.map(|point| point.machine.as_str()));
        // And both ends of the tunnel.
        let tunnels = stations
            .iter()
            .filter(|station| station.point.device == self.topology.tunnel);
        names.extend(tunnels.map(|station| station.point.machine.as_str()));
        let found = names
            .into_iter()
            .filter_map(|name| decide::machine_named(self.cluster, name));
        found.collect()
    }

    async fn collect(
        &self,
        trace: &Trace,
        expected: &Expected,
        finding: &Finding,
        evidence: &mut Evidence,
    ) -> Result<(), Error> {
        for machine in self.machines(finding, expected) {
            let state = collect::state(&machine).await?;
            evidence.machines.insert(machine.name().to_owned(), state);
        }
        evidence.destination = Some(self.to.address);
        evidence.size = self.settings.size;
        evidence.unanswered = self.taps.unanswered();
        let (stations, hops) = match finding.leg {
            Leg::There => (&expected.there, &trace.there),
            Leg::Back => (&expected.back, &trace.back),
        };
        let previous = finding.station.checked_sub(1);
        let previous = previous.and_then(|number| stations.get(number));
        let last =
            previous.and_then(|station| super::compare::at(station, finding.leg, hops).next());
        evidence.decision = match last {
            Some(hop) => hop.decision.clone(),
            None => self.first_decision(trace, finding.leg).await?,
        };
        // What should have become of it in the tunnel.
        let station = stations.get(finding.station);
        let outer = station.and_then(|station| station.outer);
        if let (Some((_, destination)), Some(station)) = (outer, station)
            && let Some(machine) = decide::machine_named(self.cluster, &station.point.machine)
        {
            let flow = Flow {
                destination,
                source: None,
                incoming: None,
            };
            evidence.outer_decision = decide::decision(&machine, &flow).await?;
        }
        Ok(())
    }

    /// What the maker of a packet decides that nobody has seen.
    async fn first_decision(
        &self,
        trace: &Trace,
        leg: Leg,
    ) -> Result<Option<decide::Decision>, Error> {
        let (machine, destination) = match leg {
            Leg::There => (Some(self.sender.clone()), self.to.address),
            Leg::Back => {
                let asked_by = trace.there.last().and_then(Hop::inner);
                let address = asked_by.map_or(self.from.address, |header| header.source);
                (self.to.machine.clone(), address)
            }
        };
        let Some(machine) = machine else {
            return Ok(None);
        };
        let flow = Flow {
            destination,
            source: None,
            incoming: None,
        };
        decide::decision(&machine, &flow).await
    }
}

/// When the packet was last where it should be.
fn last_seen(attempt: &Attempt, finding: &Finding) -> Option<SystemTime> {
    let (stations, hops) = match finding.leg {
        Leg::There => (&attempt.expected.there, &attempt.trace.there),
        Leg::Back => (&attempt.expected.back, &attempt.trace.back),
    };
    let station = stations.get(finding.station.checked_sub(1)?)?;
    let last = super::compare::at(station, finding.leg, hops).last()?;
    Some(last.time)
}

fn failed(sender: &Machine, source: std::io::Error) -> Error {
    let machine = sender.name().to_owned();
    TraceError::Probe { machine, source }.into()
}
