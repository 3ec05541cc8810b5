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

use std::sync::Arc;

use futures_util::{TryStream, TryStreamExt};
use rtnetlink::sys::AsyncSocket;
use tokio::sync::Mutex;

use crate::namespace::Namespaces;

/// A netlink connection into one network namespace. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Netlink {
    handle: rtnetlink::Handle,
    /// Whose turn it is to have a table told.
    tables: Arc<Mutex<()>>,
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
            tables: Arc::default(),
            machine: machine.to_owned(),
        })
    }

    /// Has the kernel tell a whole table, `what`, message by message.
    ///
    /// Of a socket it tells one at a time: until that has been read to its end, it refuses the next
    /// question with `EBUSY` (`__netlink_dump_start` in net/netlink/af_netlink.c). So they wait for
    /// each other, and one that nobody waits for any more is read all the same.
    async fn table<S>(
        &self,
        what: &'static str,
        ask: impl FnOnce(rtnetlink::Handle) -> S + Send + 'static,
    ) -> Result<Vec<S::Ok>, NetlinkError>
    where
        S: TryStream<Error = rtnetlink::Error> + Send + 'static,
        S::Ok: Send + 'static,
    {
        let turn = Arc::clone(&self.tables).lock_owned();
        let handle = self.handle.clone();
        let told = tokio::spawn(async move {
            let _turn = turn.await;
            // The question is sent here, not before.
            ask(handle).try_collect().await
        });
        match told.await {
            Ok(messages) => messages.map_err(self.error("list", what)),
            Err(ended) => {
                let object = format!("{}: {what}", self.machine);
                Err(NetlinkError::io(
                    "list",
                    &object,
                    std::io::Error::other(ended),
                ))
            }
        }
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
