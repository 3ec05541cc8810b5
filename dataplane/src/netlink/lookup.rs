//! The kernel's own look-up of one route, and word of anything that may change its answers.

use std::io;
use std::net::Ipv4Addr;

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket as NetlinkSocket, SocketAddr};

use super::failed;
use super::socket::Socket;
use crate::platform::KernelError;

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

    /// The gateway of the route by which a packet to `destination` leaves through `interface`;
    /// `None` when there is no such route, or one without an IPv4 gateway.
    pub(crate) fn gateway(&mut self, destination: Ipv4Addr, interface: u32) -> Option<Ipv4Addr> {
        let mut question = RouteMessage::default();
        question.header.address_family = AddressFamily::Inet;
        question.header.destination_prefix_length = 32;
        question.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(destination)),
            RouteAttribute::Oif(interface),
        ];
        match self.requests.get(RouteNetlinkMessage::GetRoute(question)) {
            Ok(RouteNetlinkMessage::NewRoute(route)) => {
                route
                    .attributes
                    .iter()
                    .find_map(|attribute| match attribute {
                        RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(*gateway),
                        _ => None,
                    })
            }
            // "Network is unreachable" and the like.
            Ok(_) | Err(_) => None,
        }
    }

    /// Whether answers may be others than before the last call. The kernel queues its word
    /// before the change's author gets his answer, so "no" is never late.
    pub(crate) fn changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            self.buffer.clear();
            match self.changes.recv(&mut self.buffer, 0) {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More than fitted: whatever it was, it was a change.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => changed = true,
                // Without news every answer may be old.
                Err(_) => return true,
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
    ] {
        socket.add_membership(group as u32)?;
    }
    if let Err(error) = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER) {
        tracing::debug!("netlink: the receive buffer stays small: {error}");
    }
    Ok(socket)
}
