//! The captures of a trace: on every device that the probe may pass, and on those it must not.

use std::collections::{BTreeMap, BTreeSet};

use super::hop::Hop;
use super::mark::Mark;
use super::point::Point;
use crate::capture::{Capture, CaptureSocket, Filter, Recording, at_once};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::machine::Machine;
use crate::netlink::{Link, MacAddress};
use crate::packet::Packet;

/// Up to so many nodes all of them are tapped; of a larger cluster those that have to do with the
/// path, so that a trace costs the same in any cluster.
const ALL_NODES: usize = 16;

/// What the kernel may hold for each tap, in bytes; the probes are few.
const WAITING: usize = 1 << 20;

/// A capture on one device.
pub(super) struct Tap {
    pub(super) point: Point,
    /// `None` where every frame is taken: no link layer, no neighbours, or a port of a bridge.
    takes: Option<MacAddress>,
    capture: Capture,
}

impl Tap {
    fn new(machine: &Machine, link: &Link, socket: CaptureSocket) -> Result<Self, Error> {
        let takes = link.mac.filter(|_| link.arp && link.master.is_none());
        let name = format!("{}/{}", machine.name(), link.name);
        Ok(Self {
            point: Point::new(machine.name(), &link.name),
            takes,
            // Not `Machine::capture`: the event log tells of the trace, not of its two dozen taps.
            capture: Capture::start(socket, name)?,
        })
    }

    /// Whether a frame that comes in is for this device.
    pub(super) fn takes(&self, packet: &Packet) -> bool {
        let (Some(own), Some(ethernet)) = (self.takes, packet.ethernet()) else {
            return true;
        };
        let multicast = ethernet.destination[0] & 1 == 1;
        multicast || ethernet.destination == own.0
    }
}

fn listen(machine: &Machine, device: &str) -> Result<CaptureSocket, Error> {
    let everything = Filter::everything();
    let namespaces = machine.live()?.namespaces();
    Ok(namespaces.run(|| CaptureSocket::open_with_buffer(device, &everything, WAITING))??)
}

/// All captures of a trace.
pub(super) struct Taps {
    taps: Vec<Tap>,
    macs: BTreeMap<Point, [u8; 6]>,
}

impl Taps {
    /// Captures on every device of the fabric, of the nodes and of the two ends.
    ///
    /// `concerned` are the names of the machines that the path should pass.
    pub(super) async fn open(
        cluster: &Cluster,
        ends: &[Machine],
        concerned: &BTreeSet<String>,
    ) -> Result<Self, Error> {
        let nodes = cluster.nodes();
        let all = nodes.len() <= ALL_NODES;
        let mut machines = vec![cluster.fabric().clone()];
        let nodes = nodes.iter().map(|node| Machine::clone(node));
        machines.extend(nodes.filter(|node| all || concerned.contains(node.name())));
        let known: BTreeSet<String> = machines.iter().map(|m| m.name().to_owned()).collect();
        machines.extend(ends.iter().filter(|m| !known.contains(m.name())).cloned());
        let mut wanted = Vec::new();
        let mut macs = BTreeMap::new();
        for machine in &machines {
            for link in machine.links().await? {
                if let Some(mac) = link.mac {
                    macs.insert(Point::new(machine.name(), &link.name), mac.0);
                }
                // Ports of nodes that are not tapped say nothing more than the bridge does.
                let is_port = machine.name() == cluster.fabric().name() && link.master.is_some();
                if all || !is_port || concerned_port(cluster, concerned, &link.name) {
                    wanted.push((machine, link));
                }
            }
        }
        let sockets = at_once(&wanted, |(machine, link)| listen(machine, &link.name));
        let taps = wanted.iter().zip(sockets);
        let taps = taps.map(|((machine, link), socket)| Tap::new(machine, link, socket?));
        Ok(Self {
            taps: taps.collect::<Result<_, Error>>()?,
            macs,
        })
    }

    /// The hardware addresses of all devices that were seen.
    pub(super) fn macs(&self) -> &BTreeMap<Point, [u8; 6]> {
        &self.macs
    }

    /// Everything that was captured and has to do with the probe, in the order of time.
    pub(super) fn hops(&self, mark: &Mark) -> Vec<Hop> {
        let mut hops: Vec<Hop> = Vec::new();
        for tap in &self.taps {
            let packets = tap.capture.packets();
            hops.extend(packets.iter().filter_map(|seen| Hop::of(mark, tap, seen)));
        }
        hops.sort_by_key(|hop| hop.time);
        let first = hops.first().map(|hop| hop.time);
        for hop in &mut hops {
            let since = first.map(|first| hop.time.duration_since(first));
            hop.after = since.and_then(Result::ok).unwrap_or_default();
        }
        hops
    }

    /// The addresses that a machine asked for by ARP on a device, and got no answer.
    pub(super) fn unanswered(&self) -> Vec<(Point, std::net::Ipv4Addr)> {
        const REQUEST: u16 = 1;
        const REPLY: u16 = 2;
        let mut unanswered = Vec::new();
        for tap in &self.taps {
            let packets = tap.capture.packets();
            let messages = packets.iter().filter_map(|seen| {
                let arp = seen.packet.arp()?;
                Some((seen.direction, arp.clone()))
            });
            let messages: Vec<_> = messages.collect();
            let asked = messages.iter().filter(|(direction, arp)| {
                *direction == crate::capture::Direction::Outgoing && arp.operation == REQUEST
            });
            for (_, question) in asked {
                let answered = messages
                    .iter()
                    .any(|(_, arp)| arp.operation == REPLY && arp.sender == question.target);
                let entry = (tap.point.clone(), question.target);
                if !answered && !unanswered.contains(&entry) {
                    unanswered.push(entry);
                }
            }
        }
        unanswered
    }

    /// Ends the captures; returns all that they saw, also those that saw nothing.
    pub(super) async fn stop(self) -> Result<Vec<(Point, Recording)>, Error> {
        let mut recordings = Vec::new();
        for tap in self.taps {
            recordings.push((tap.point, tap.capture.stop().await?));
        }
        Ok(recordings)
    }
}

fn concerned_port(cluster: &Cluster, concerned: &BTreeSet<String>, port: &str) -> bool {
    let mut nodes = cluster.nodes().into_iter();
    nodes.any(|node| node.fabric_port() == port && concerned.contains(node.name()))
}
