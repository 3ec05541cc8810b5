//! The kernel's own look-up of one route, and word of anything that may change its answers.

use std::io;
use std::net::Ipv4Addr;

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket as NetlinkSocket, SocketAddr};

use super::socket::{Socket, kind_of, messages};
use super::{failed, neighbour};
use crate::mac::Mac;
use crate::platform::KernelError;

// The kernel's linux/rtnetlink.h.
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

/// Asks the routing tables as the kernel itself does for a packet: all rules, tables, nexthop
/// objects and metrics count.
pub(crate) struct RouteLookup {
    requests: Socket,
    changes: NetlinkSocket,
    buffer: Vec<u8>,
}

/// For a burst of changes; one that does not fit is no loss, it only has to be noticed.
const BUFFER: usize = 1 << 20;

impl RouteLookup {
    /// # Errors
    /// When the kernel refuses the sockets.
    pub(crate) fn new() -> Result<Self, KernelError> {
        Ok(Self {
            requests: Socket::new()?,
            changes: subscribe().map_err(|error| failed("open", "a netlink socket", error))?,
            buffer: Vec::with_capacity(32 * 1024),
        })
    }

    /// The gateway of the route by which a packet to `destination` leaves, through `interface` if one
    /// is named; `None` when there is no such route, or one without an IPv4 gateway.
    pub(crate) fn gateway(
        &mut self,
        destination: Ipv4Addr,
        interface: Option<u32>,
    ) -> Option<Ipv4Addr> {
        self.route(destination, interface)?.gateway
    }

    /// How a packet to `destination` leaves the node; `None` when there is no way, or the
    /// neighbour is not known yet.
    pub(crate) fn hop(&mut self, destination: Ipv4Addr) -> Option<Hop> {
        let route = self.route(destination, None)?;
        let interface = route.interface?;
        let mac = self.neighbour(route.gateway.unwrap_or(destination), interface)?;
        let mtu = route.mtu;
        Some(Hop {
            interface,
            mac,
            mtu,
        })
    }

    /// `None` also for "network is unreachable" and the like.
    fn route(&mut self, destination: Ipv4Addr, interface: Option<u32>) -> Option<Found> {
        let mut question = RouteMessage::default();
        question.header.address_family = AddressFamily::Inet;
        question.header.destination_prefix_length = 32;
        question.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(destination))];
        question
            .attributes
            .extend(interface.map(RouteAttribute::Oif));
        let answer = self.requests.get(RouteNetlinkMessage::GetRoute(question));
        let Ok(RouteNetlinkMessage::NewRoute(route)) = answer else {
            return None;
        };
        // A route to one's own addresses has an interface as well.
        if route.header.kind != RouteType::Unicast {
            return None;
        }
        let mut found = Found::default();
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => {
                    found.gateway = Some(gateway);
                }
                RouteAttribute::Oif(interface) => found.interface = Some(interface),
                RouteAttribute::Metrics(metrics) => {
                    found.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Some(found)
    }

    /// The link-layer address that the kernel would send to.
    fn neighbour(&mut self, address: Ipv4Addr, interface: u32) -> Option<Mac> {
        let mut question = NeighbourMessage::default();
        question.header.family = AddressFamily::Inet;
        question.header.ifindex = interface;
        question.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(
            address,
        ))];
        let answer = self
            .requests
            .get(RouteNetlinkMessage::GetNeighbour(question));
        let Ok(RouteNetlinkMessage::NewNeighbour(neighbour)) = answer else {
            return None;
        };
        neighbour::usable(&neighbour)
    }

    /// What may be other than before the last call. The kernel queues its word before the
    /// change's author gets his answer, so "nothing" is never late.
    pub(crate) fn changed(&mut self) -> Changed {
        let mut changed = Changed::default();
        loop {
            self.buffer.clear();
            match self.changes.recv(&mut self.buffer, 0) {
                Ok(_) => changed.note(&self.buffer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More than fitted: whatever it was, it was a change.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    changed = Changed::EVERYTHING;
                }
                // Without news every answer may be old.
                Err(_) => return Changed::EVERYTHING,
            }
        }
    }
}

/// What a route says.
#[derive(Default)]
struct Found {
    gateway: Option<Ipv4Addr>,
    interface: Option<u32>,
    mtu: Option<u32>,
}

/// The first step of a packet that leaves the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Index of the interface.
    pub interface: u32,
    /// Link-layer address of who takes it there.
    pub mac: Mac,
    /// The route's MTU in bytes, where it has one of its own.
    pub mtu: Option<u32>,
}

/// What somebody has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Routes, or what they depend on.
    pub routes: bool,
    /// Link-layer addresses, or whether they answer.
    pub neighbours: bool,
}

impl Changed {
    const EVERYTHING: Self = Self {
        routes: true,
        neighbours: true,
    };

    /// Takes note of the messages in `bytes`.
    fn note(&mut self, bytes: &[u8]) {
        for message in messages(bytes) {
            match kind_of(message) {
                Some(RTM_NEWNEIGH | RTM_DELNEIGH) => self.neighbours = true,
                // Also an interface, or an address: they take routes along.
                _ => self.routes = true,
            }
        }
    }
}

fn subscribe() -> io::Result<NetlinkSocket> {
    let mut socket = NetlinkSocket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    // With an interface that goes down or loses its address, its routes go without a word.
    for group in [
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Nexthop,
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Neigh,
    ] {
        socket.add_membership(group as u32)?;
    }
    if let Err(error) = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER) {
        tracing::debug!("netlink: the receive buffer stays small: {error}");
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16) -> Vec<u8> {
        let mut bytes = 16u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(16, 0);
        bytes
    }

    #[test]
    fn a_neighbour_that_answers_changes_no_route() {
        const RTM_NEWLINK: u16 = 16;
        let changed = |kinds: &[u16]| {
            let mut changed = Changed::default();
            changed.note(
                &kinds
                    .iter()
                    .flat_map(|kind| message(*kind))
                    .collect::<Vec<_>>(),
            );
            (changed.neighbours, changed.routes)
        };
        assert_eq!(changed(&[]), (false, false));
        assert_eq!(changed(&[RTM_NEWNEIGH, RTM_DELNEIGH]), (true, false));
        assert_eq!(changed(&[RTM_NEWLINK]), (false, true));
        assert_eq!(changed(&[RTM_NEWNEIGH, RTM_NEWLINK]), (true, true));
    }
}
