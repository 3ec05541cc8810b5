//! Tunnels that lead elsewhere: the right next hop, and then the wrong peer behind the device.

use std::net::Ipv4Addr;

use super::cause::Cause;
use super::compare::at;
use super::diagnose::Case;
use super::point::Point;
use super::topology::{Party, Station};
use crate::capture::Direction;
use crate::netlink::{MacAddress, RouteAnswer};

impl Case<'_> {
    /// Where the packet enters the tunnel on this leg.
    fn entry(&self) -> Option<&Station> {
        let mut stations = self.stations().iter();
        stations.find(|station| {
            station.point.device == self.topology.tunnel && station.direction == Direction::Outgoing
        })
    }

    /// The outer destination is another node's.
    pub(super) fn other_peer(&self, expected: Ipv4Addr, found: Ipv4Addr) -> (String, Cause) {
        self.misled().unwrap_or_else(|| {
            let cause = match self.entry().filter(|entry| self.chosen(entry).is_some()) {
                Some(entry) => Cause::WrongTunnelPeer {
                    device: entry.point.device.clone(),
                    expected,
                    found,
                },
                None => Cause::WrongNextHop { expected, found },
            };
            (self.machine(), cause)
        })
    }

    /// Who put the packet into the tunnel, and what was wrong with it then: the next hop, or, where
    /// the frames in the tunnel bear hardware addresses, that of the next hop.
    pub(super) fn misled(&self) -> Option<(String, Cause)> {
        let entry = self.entry()?;
        let expected = entry.next_hop?;
        let cause = match self.chosen(entry) {
            Some(found) if found != expected => Cause::WrongNextHop { expected, found },
            _ => self.wrong_inner_frame(entry, expected)?,
        };
        Some((entry.point.machine.clone(), cause))
    }

    /// The next hop behind the tunnel's device that its machine decided for.
    fn chosen(&self, entry: &Station) -> Option<Ipv4Addr> {
        let decisions = self.hops.iter().filter_map(|hop| {
            let own = hop.leg == self.finding.leg && hop.point.machine == entry.point.machine;
            hop.decision.as_ref().filter(|_| own)
        });
        let mut into_tunnel = decisions.filter_map(|decision| match &decision.route {
            RouteAnswer::Forward {
                device, gateway, ..
            } if *device == entry.point.device => *gateway,
            _ => None,
        });
        into_tunnel.next()
    }

    fn wrong_inner_frame(&self, entry: &Station, next_hop: Ipv4Addr) -> Option<Cause> {
        let resolves = self.evidence.link(&entry.point)?.arp;
        let hop = at(entry, self.finding.leg, self.hops).next()?;
        let ethernet = hop.captured.packet.ethernet().filter(|_| resolves)?;
        let Party::Node(peer) = self.topology.party(next_hop) else {
            return None;
        };
        let expected = Point::new(peer, &entry.point.device);
        let found = MacAddress(ethernet.destination);
        if self.evidence.link(&expected)?.mac? == found {
            return None;
        }
        let known = self.evidence.machine(&entry.point.machine)?;
        let known = known
            .neighbours
            .iter()
            .find(|known| known.interface == entry.point.device && known.address == next_hop);
        Some(Cause::WrongNeighbour {
            address: Some(next_hop),
            found,
            expected,
            state: known.map(|known| known.state),
        })
    }
}
