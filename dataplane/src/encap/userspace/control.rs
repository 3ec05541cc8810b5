//! What a packet thread is told while it runs.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::socket::batch::Received;
use crate::desired::Peers;
use crate::mac::Mac;

/// After this time without a packet no stream is under way.
const IDLE_MS: u16 = 500;

/// What may change while packets flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub node_address: Ipv4Addr,
    /// Outer sources that packets are taken from.
    pub peers: Peers,
    /// Index of the underlay interface.
    pub underlay: u32,
    /// Where segments are joined on their way there.
    pub joiner: Option<Joiner>,
}

/// The way through the kernel's receive offload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joiner {
    /// Index of the interface that takes segments.
    pub segments: u32,
    /// Index of the interface at which they are joined.
    pub joined: u32,
    /// Link-layer address of the underlay interface, which they leave by in the end.
    pub mac: Mac,
    /// MTU of both in bytes.
    pub mtu: u32,
}

/// The agent's end. Dropping it ends the thread.
pub(super) struct Control {
    settings: Sender<Arc<Settings>>,
    /// Wakes the thread from its wait; its end is the end.
    wake: UnixStream,
}

/// The thread's end.
pub(super) struct Orders {
    settings: Receiver<Arc<Settings>>,
    wake: UnixStream,
}

/// Something new, or the end.
pub(super) enum Order {
    Nothing,
    Settings(Arc<Settings>),
    Stop,
}

/// Both ends.
pub(super) fn channels() -> io::Result<(Control, Orders)> {
    let (sender, receiver) = channel();
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let control = Control {
        settings: sender,
        wake: ours,
    };
    let orders = Orders {
        settings: receiver,
        wake: theirs,
    };
    Ok((control, orders))
}

impl Control {
    /// Hands over settings. A thread that is gone is found out by whoever holds its handle.
    pub(super) fn send(&mut self, settings: Arc<Settings>) {
        if self.settings.send(settings).is_ok()
            && let Err(error) = self.wake.write(&[0])
        {
            // A full pipe wakes as well.
            tracing::debug!("userspace: waking a packet thread: {error}");
        }
    }
}

impl Orders {
    /// The latest order. Costs little enough to be asked for before every batch.
    pub(super) fn next(&self) -> Order {
        let mut latest = Order::Nothing;
        loop {
            match self.settings.try_recv() {
                Ok(settings) => latest = Order::Settings(settings),
                Err(TryRecvError::Empty) => return latest,
                Err(TryRecvError::Disconnected) => return Order::Stop,
            }
        }
    }

    /// Waits until the socket can be read, or an order is there. While `buffers` hold more memory
    /// than they need it waits for a moment only, and gives that back when nothing has come.
    pub(super) fn wait(&mut self, socket: impl AsFd, buffers: &mut Received) {
        let timeout = match buffers.is_swollen() {
            true => PollTimeout::from(IDLE_MS),
            false => PollTimeout::NONE,
        };
        let mut fds =
            [socket.as_fd(), self.wake.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Ok(0) => buffers.release(),
            Ok(_) => {}
            Err(error) => tracing::debug!("userspace: poll: {error}"),
        }
        let mut waste = [0; 64];
        while matches!(self.wake.read(&mut waste), Ok(1..)) {}
    }
}
