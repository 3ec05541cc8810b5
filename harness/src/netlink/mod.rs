//! The one module of the harness that speaks netlink.
//!
//! A connection's socket is made inside one network namespace; requests then run on the caller's
//! tokio runtime. What is read back are the typed values [`Link`], [`Address`], [`Route`] and
//! [`Neighbour`].

mod address;
mod device_state;
mod error;
mod events;
mod link;
mod lookup;
mod mac;
mod neighbour;
mod qdisc;
mod route;
mod rule;
mod traffic;
mod trial;
mod tunnel;

pub use address::Address;
pub use error::NetlinkError;
pub use events::{RouteEvent, RouteEvents};
pub use link::Link;
pub use lookup::{Flow, Refusal, RouteAnswer};
pub use mac::{MacAddress, MacAddressError};
pub use neighbour::{Neighbour, NeighbourState};
pub use route::{Route, RouteKind, RouteProtocol, RouteScope};
pub use rule::{Rule, TableRoute};
pub use traffic::{Filter as TrafficFilter, QdiscState, Statistics};
pub use tunnel::IpTunnel;

pub(crate) use device_state::{
    DeviceState, address_text, black_hole, confuse, destination, device_of,
};
pub(crate) use link::{VethEnd, VethPeer};
pub(crate) use qdisc::Qdisc;
pub(crate) use route::NewRoute;
pub(crate) use rtnetlink::packet_route::address::AddressMessage;
pub(crate) use rtnetlink::packet_route::neighbour::NeighbourMessage;
pub(crate) use rtnetlink::packet_route::route::RouteMessage;

use rtnetlink::sys::AsyncSocket;

use crate::namespace::Namespaces;

/// A netlink connection into one network namespace. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Netlink {
    handle: rtnetlink::Handle,
    /// The machine's name, for error messages.
    machine: String,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens a connection into `namespaces`; must be called within a tokio runtime, which drives
    /// the connection until every clone is dropped.
    pub(crate) fn connect(namespaces: &Namespaces, machine: &str) -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::current();
        let failed = |source: std::io::Error| NetlinkError::io("connect", machine, source);
        let (mut connection, handle, _) = namespaces
            .run(|| {
                let _guard = runtime.enter();
                rtnetlink::new_connection()
            })
            .map_err(|error| failed(std::io::Error::other(error)))?
            .map_err(failed)?;
        // Without this the kernel answers with a bare errno; users live by its sentences.
        connection
            .socket_mut()
            .socket_mut()
            .set_ext_ack(true)
            .map_err(failed)?;
        runtime.spawn(connection);
        Ok(Self {
            handle,
            machine: machine.to_owned(),
        })
    }

    /// Turns a failure of `operation` on `object` into an error that names both.
    fn error(
        &self,
        operation: &'static str,
        object: impl std::fmt::Display,
    ) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
        let object = format!("{}: {object}", self.machine);
        move |error| NetlinkError::from_rtnetlink(operation, object, error)
    }
}
