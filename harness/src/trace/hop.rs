//! One probe at one device.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::mark::{Mark, Relation};
use super::point::Point;
use super::taps::Tap;
use crate::capture::{Captured, Direction};
use crate::netlink::{Neighbour, RouteAnswer};
use crate::packet::{Ipv4, Packet, ip_protocol};

/// Which way a packet was going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Leg {
    /// From the sender of the probe to its target.
    There,
    /// Back.
    Back,
}

/// The probe, its answer, or an error about either, at one device.
#[derive(Debug, Clone)]
pub struct Hop {
    /// Where.
    pub point: Point,
    /// Which way the device passed it.
    pub direction: Direction,
    /// Which way it was going.
    pub leg: Leg,
    /// It is an ICMP error that quotes the packet of the *other* leg.
    pub is_error: bool,
    /// When the kernel saw it.
    pub time: SystemTime,
    /// The time since the first hop of the probe.
    pub after: Duration,
    /// The packet as captured.
    pub captured: Captured,
    /// The packet taken apart, outermost first: more than one where the decoder does not know the
    /// encapsulation.
    pub stack: Vec<Packet>,
    /// The frame bears the hardware address of the device (or there is none): a machine to which
    /// a switch has flooded somebody else's frame drops it.
    pub addressed: bool,
    /// What the machine decided for the packet it has here, where it decides.
    pub decision: Option<Decision>,
}

/// The decision of a machine: where to send a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What the routing tables say.
    pub route: RouteAnswer,
    /// What the machine knows of the next hop's hardware address.
    pub neighbour: Option<Neighbour>,
}

impl Hop {
    /// The captured packet as a hop, if it has to do with the probe.
    pub(super) fn of(mark: &Mark, tap: &Tap, captured: &Captured) -> Option<Self> {
        let (relation, stack) = mark.recognise(&captured.packet)?;
        let leg = match relation {
            Relation::Request | Relation::ErrorAboutReply => Leg::There,
            Relation::Reply | Relation::ErrorAboutRequest => Leg::Back,
        };
        let is_error = matches!(
            relation,
            Relation::ErrorAboutRequest | Relation::ErrorAboutReply
        );
        Some(Self {
            point: tap.point.clone(),
            direction: captured.direction,
            leg,
            is_error,
            time: captured.time,
            after: Duration::ZERO,
            captured: captured.clone(),
            stack,
            addressed: captured.direction == Direction::Outgoing || tap.takes(&captured.packet),
            decision: None,
        })
    }

    /// All IPv4 headers at any depth, outermost first.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = &Ipv4> {
        self.stack.iter().flat_map(Packet::ipv4_headers)
    }

    /// The header of the probe itself.
    pub fn inner(&self) -> Option<&Ipv4> {
        self.headers().next_back()
    }

    /// The outermost of the headers around it.
    pub fn outer(&self) -> Option<&Ipv4> {
        self.headers().next().filter(|_| self.depth() > 0)
    }

    /// How many IPv4 headers are around it: 0 is plain.
    pub fn depth(&self) -> usize {
        self.headers().count().saturating_sub(1)
    }

    /// Length of the outermost IPv4 packet in bytes: what has to fit the device's MTU.
    pub fn length(&self) -> usize {
        self.headers()
            .next()
            .map_or(0, |header| usize::from(header.total_length))
    }
}

/// Place and headers, outer and inner.
impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PLACE: usize = 36;
        let micros = self.after.as_micros();
        let place = self.point.to_string();
        write!(f, "{micros:>5} µs  {place:<PLACE$} ")?;
        for (number, header) in self.headers().enumerate() {
            let gap = if number == 0 { "" } else { "  " };
            let protocol = protocol(header);
            let Ipv4 {
                source,
                destination,
                ttl,
                ..
            } = header;
            write!(f, "{gap}[{source} > {destination} ttl {ttl} {protocol}]")?;
        }
        if self.is_error
            && let Some(packet) = self.stack.last()
            && let Some(icmp) = packet.icmp()
        {
            write!(f, "  {:?}", icmp.message)?;
        }
        if !self.addressed {
            f.write_str("  (flooded; for another machine)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route: {}", self.route)?;
        match &self.neighbour {
            Some(neighbour) => {
                write!(f, "; neighbour {} ", neighbour.address)?;
                match neighbour.mac {
                    Some(mac) => write!(f, "is {mac}")?,
                    None => f.write_str("has no address")?,
                }
                write!(f, " ({:?})", neighbour.state)
            }
            None => Ok(()),
        }
    }
}

fn protocol(header: &Ipv4) -> String {
    match header.protocol {
        ip_protocol::ICMP => "icmp".to_owned(),
        ip_protocol::IPIP => "ipip".to_owned(),
        ip_protocol::TCP => "tcp".to_owned(),
        ip_protocol::UDP => "udp".to_owned(),
        other => format!("protocol {other}"),
    }
}
