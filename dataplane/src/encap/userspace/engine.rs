//! The two threads and what they share.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::control::{self, Control, Orders, Settings};
use super::drops::Drops;
use super::inbound::{self, Inbound};
use super::next_hop::NextHops;
use super::outbound::{self, Outbound};
use super::socket::{self, SocketError};
use super::streams::Streams;
use crate::netlink::lookup::RouteLookup;
use crate::platform::KernelError;

/// Packets could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserspaceError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("start a packet thread")]
    Thread(#[source] io::Error),
}

/// Between which interfaces packets are carried. To change it takes new sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub tunnel: u32,
    pub peer: u32,
    pub macs: inbound::Ends,
}

/// Carries packets until it is dropped.
pub(super) struct Engine {
    ends: Ends,
    settings: Arc<Settings>,
    threads: [Thread; 2],
    drops: Arc<Drops>,
}

impl Engine {
    /// # Errors
    /// When a socket or a thread is refused; nothing is left of the others then.
    pub(super) fn start(ends: Ends, settings: Settings) -> Result<Self, UserspaceError> {
        let settings = Arc::new(settings);
        let drops = Arc::new(Drops::default());
        let outbound = {
            let (tap, sender) = (socket::tap(ends.peer)?, socket::sender()?);
            let next_hops = NextHops::new(RouteLookup::new()?, ends.tunnel);
            let launcher = outbound::launcher(&settings);
            let (settings, drops) = (Arc::clone(&settings), Arc::clone(&drops));
            Thread::start("tunl0-out", move |orders| {
                let outbound = Outbound {
                    tap,
                    sender,
                    next_hops,
                    settings,
                    orders,
                    drops,
                    launcher,
                    streams: Streams::default(),
                };
                outbound.run();
            })?
        };
        let inbound = {
            let claim = socket::claim()?;
            let injector = socket::injector(ends.peer)?;
            let receiver = socket::receiver(settings.underlay, settings.node_address)?;
            let (settings, drops) = (Arc::clone(&settings), Arc::clone(&drops));
            Thread::start("tunl0-in", move |orders| {
                let inbound = Inbound {
                    receiver,
                    _claim: claim,
                    injector,
                    ends: ends.macs,
                    settings,
                    orders,
                    drops,
                };
                inbound.run();
            })?
        };
        Ok(Self {
            ends,
            settings,
            threads: [outbound, inbound],
            drops,
        })
    }

    /// Whether it works between these interfaces.
    pub(super) fn serves(&self, ends: Ends) -> bool {
        self.ends == ends && self.threads.iter().all(Thread::is_alive)
    }

    pub(super) fn drops(&self) -> &Drops {
        &self.drops
    }

    /// From now on with these settings; no packet is lost over it.
    pub(super) fn follow(&mut self, settings: Settings) {
        if settings != *self.settings {
            self.settings = Arc::new(settings);
            for thread in &mut self.threads {
                thread.tell(&self.settings);
            }
        }
    }
}

/// A thread that ends when it is dropped.
struct Thread {
    /// Always there, until the drop.
    control: Option<Control>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    fn start(
        name: &str,
        run: impl FnOnce(Orders) + Send + 'static,
    ) -> Result<Self, UserspaceError> {
        let (control, orders) = control::channels().map_err(UserspaceError::Thread)?;
        let handle = Builder::new()
            .name(name.to_owned())
            .spawn(move || run(orders))
            .map_err(UserspaceError::Thread)?;
        Ok(Self {
            control: Some(control),
            handle: Some(handle),
        })
    }

    fn is_alive(&self) -> bool {
        self.handle
            .as_ref()
            .is_some_and(|handle| !handle.is_finished())
    }

    fn tell(&mut self, settings: &Arc<Settings>) {
        if let Some(control) = &mut self.control {
            control.send(Arc::clone(settings));
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.control = None;
        if self
            .handle
            .take()
            .is_some_and(|handle| handle.join().is_err())
        {
            tracing::error!("userspace: a packet thread has panicked");
        }
    }
}
