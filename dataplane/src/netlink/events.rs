//! What others change in the kernel, as it happens.

use std::future::{pending, poll_fn};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::FutureExt;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};

use super::rulesets::Rulesets;
use super::{filter, neighbour, parameters, route, socket};
use crate::platform::{KernelError, Route};

/// Something in the kernel is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An interface came, went or changed.
    Link,
    /// An address came or went.
    Address,
    /// A route came or changed, or it is gone.
    Route { route: Route, gone: bool },
    /// A neighbour came, went or changed.
    Neighbour { interface: u32, address: Ipv4Addr },
    /// A tc filter, or what holds one, came, went or changed on this interface.
    TcFilter { interface: u32 },
    /// IPv4 parameters of an interface were set; those that the event does not tell are `None`.
    Parameters {
        /// Its index; `None` for the parameters of all interfaces together.
        interface: Option<u32>,
        forwarding: Option<bool>,
        proxy_arp: Option<bool>,
    },
    /// A transaction changed this nftables table of family ip and made this generation.
    Ruleset { table: String, generation: u32 },
    /// The kernel had more to tell than fitted into the socket's buffer.
    Lost,
}

/// A thousand routes at once are about a megabyte of events. The kernel takes memory for what
/// is waiting only.
const BUFFER: usize = 4 << 20;

/// Subscription to the events of the process's network namespace.
pub(crate) struct Events {
    socket: TokioSocket,
    ours: u32,
    buffer: Vec<u8>,
    /// `None` on a kernel without nf_tables.
    rulesets: Option<Rulesets>,
}

impl Events {
    /// Subscribes to everything but what requests from the netlink port `ours` cause.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub(crate) fn new(ours: u32) -> Result<Self, KernelError> {
        Self::subscribe(ours).map_err(|error| super::failed("open", "a netlink socket", error))
    }

    fn subscribe(ours: u32) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Neigh,
            MulticastGroup::Tc,
            MulticastGroup::Ipv4Netconf,
        ];
        let bits = groups
            .iter()
            .fold(0, |bits, group| bits | 1 << (*group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, bits))?;
        if let Err(error) = enlarge(&socket) {
            // Not root outside: bursts then end in `Lost`, which costs a full comparison.
            tracing::debug!("netlink: the receive buffer stays small: {error}");
        }
        let rulesets = Rulesets::subscribe();
        if let Err(error) = &rulesets {
            tracing::debug!("netlink: no events about nftables: {error}");
        }
        Ok(Self {
            rulesets: rulesets.ok(),
            socket,
            ours,
            buffer: Vec::with_capacity(32 * 1024),
        })
    }

    /// Waits for events and takes all there are. Cancel-safe.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub(crate) async fn next(&mut self) -> io::Result<Vec<Event>> {
        loop {
            let Self {
                socket,
                ours,
                buffer,
                rulesets,
            } = self;
            let mut events = tokio::select! {
                events = receive(socket, *ours, buffer) => events?,
                events = transactions(rulesets) => events?,
            };
            while let Some(more) = receive(socket, *ours, buffer).now_or_never() {
                events.extend(more?);
            }
            while let Some(more) = transactions(rulesets).now_or_never() {
                events.extend(more?);
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}

/// The events of one datagram but those that `ours` caused.
async fn receive(
    socket: &mut TokioSocket,
    ours: u32,
    buffer: &mut Vec<u8>,
) -> io::Result<Vec<Event>> {
    buffer.clear();
    match poll_fn(|context| socket.poll_recv(context, buffer)).await {
        Ok(()) => {
            let others =
                socket::messages(buffer).filter(|message| socket::port_of(message) != Some(ours));
            Ok(others.filter_map(parse).collect())
        }
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(vec![Event::Lost]),
        Err(error) => Err(error),
    }
}

/// The same of nftables; never where there is none.
async fn transactions(rulesets: &mut Option<Rulesets>) -> io::Result<Vec<Event>> {
    match rulesets {
        Some(rulesets) => rulesets.receive().await,
        None => pending().await,
    }
}

fn enlarge(socket: &TokioSocket) -> nix::Result<()> {
    // SAFETY: `socket` owns the descriptor and outlives this borrow of it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    setsockopt(&descriptor, sockopt::RcvBufForce, &BUFFER)
}

fn parse(bytes: &[u8]) -> Option<Event> {
    // The library does not know the one kind, and of the other only what a few schedulers say.
    if parameters::is_about_them(bytes) {
        return parameters::parse(bytes);
    }
    if let Some(interface) = filter::interface_of(bytes) {
        return Some(Event::TcFilter { interface });
    }
    let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        Ok(message) => message,
        Err(error) => {
            tracing::debug!("netlink: an event that cannot be read: {error}");
            return Some(Event::Lost);
        }
    };
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return None;
    };
    match message {
        RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => Some(Event::Link),
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => {
            Some(Event::Address)
        }
        RouteNetlinkMessage::NewRoute(message) => {
            let route = route::parse(&message)?;
            Some(Event::Route { route, gone: false })
        }
        RouteNetlinkMessage::DelRoute(message) => {
            let route = route::parse(&message)?;
            Some(Event::Route { route, gone: true })
        }
        RouteNetlinkMessage::NewNeighbour(message) | RouteNetlinkMessage::DelNeighbour(message) => {
            let address = neighbour::address(&message)?;
            Some(Event::Neighbour {
                interface: message.header.ifindex,
                address,
            })
        }
        _ => None,
    }
}
