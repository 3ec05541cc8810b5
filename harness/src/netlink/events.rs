//! What happens to the routes of a machine, as it happens.

use std::net::Ipv4Addr;
use std::time::Instant;

use futures_util::StreamExt;
use ipnet::Ipv4Net;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use tokio::sync::mpsc;

use super::NetlinkError;
use crate::namespace::Namespaces;

/// A change of a machine's main IPv4 table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteEvent {
    /// What the route leads to.
    pub destination: Ipv4Net,
    /// Whether it is there now (added, or put in the place of another) or gone.
    pub present: bool,
    /// When the harness heard of it.
    pub at: Instant,
}

/// The changes of a machine's main IPv4 table since the value was made.
#[derive(Debug)]
pub struct RouteEvents(mpsc::UnboundedReceiver<RouteEvent>);

impl RouteEvents {
    /// Subscribes in `namespaces`; must be called within a tokio runtime.
    pub(crate) fn subscribe(namespaces: &Namespaces, machine: &str) -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::current();
        let failed = |source| NetlinkError::io("subscribe to routes of", machine, source);
        let (connection, handle, mut messages) = namespaces
            .run(|| {
                let _guard = runtime.enter();
                rtnetlink::new_multicast_connection(&[MulticastGroup::Ipv4Route])
            })
            .map_err(|error| failed(std::io::Error::other(error)))?
            .map_err(failed)?;
        runtime.spawn(connection);
        let (sender, receiver) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            // The connection ends with its last handle.
            let _handle = handle;
            while let Some((message, _)) = messages.next().await {
                let at = Instant::now();
                let (route, present) = match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                        (route, true)
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) => {
                        (route, false)
                    }
                    _ => continue,
                };
                let Some(destination) = destination(&route) else {
                    continue;
                };
                let event = RouteEvent {
                    destination,
                    present,
                    at,
                };
                // Nobody listens any more.
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// The next change. `None` when the kernel sends no more, which it does only when it dropped
    /// events because they were not read.
    pub async fn next(&mut self) -> Option<RouteEvent> {
        self.0.recv().await
    }
}

fn destination(route: &RouteMessage) -> Option<Ipv4Net> {
    if route.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
            _ => None,
        });
    let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ipv4Net::new(address, route.header.destination_prefix_length).ok()
}
