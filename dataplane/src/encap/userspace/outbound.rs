//! The thread that takes what the node sends into the tunnel and sends it to other nodes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::control::{Order, Orders, Settings};
use super::drops::{Drop, Drops};
use super::next_hop::{NextHops, Routing};
use super::packet::connection::TcpPacket;
use super::packet::encapsulate::{self, Outer, Ways, encapsulate};
use super::packet::frame::{self, FrameHead};
use super::packet::ipv4;
use super::socket;
use super::socket::batch::{Received, ToSend};
use super::streams::Streams;
use crate::mac::Mac;

/// Frames per batch: super-packets, so that is up to 2 MB.
const FRAMES: usize = 32;
/// Outer packets per send; the kernel takes up to 1,024 at a time.
const PACKETS: usize = 512;

pub(super) struct Outbound<R> {
    pub tap: OwnedFd,
    pub sender: OwnedFd,
    pub next_hops: NextHops<R>,
    pub settings: Arc<Settings>,
    pub orders: Orders,
    pub drops: Arc<Drops>,
    pub launcher: Option<OwnedFd>,
    pub streams: Streams,
}

/// Packets on their way out.
#[derive(Default)]
struct Queue {
    packets: ToSend<{ frame::PACKET_AT + encapsulate::HEADERS }>,
}

/// Numbers of the sockets in the queue.
const SENDER: usize = 0;
const LAUNCHER: usize = 1;

impl Queue {
    /// Adds what lies in the frame that starts at `at` of the buffer. `mac` is the underlay's.
    fn push(&mut self, outer: &Outer<'_>, at: usize, mac: Mac) {
        let rest = outer.rest.start + at..outer.rest.end + at;
        let rest = std::slice::from_ref(&rest);
        match &outer.join {
            Some(join) => {
                let head = FrameHead::new(&join.vnet, mac, join.mac);
                self.packets
                    .push(LAUNCHER, None, &[head.bytes(), outer.headers], rest);
            }
            None => self
                .packets
                .push(SENDER, Some(outer.to), &[outer.headers], rest),
        }
    }
}

/// The kernel's routes and neighbours.
struct Kernel<'a, R> {
    next_hops: &'a mut NextHops<R>,
    streams: &'a mut Streams,
    settings: &'a Settings,
    now: Instant,
}

impl<R: Routing> Ways for Kernel<'_, R> {
    fn gateway(&mut self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        self.next_hops.gateway(destination).or_else(|| {
            // Only to a node: its tunnel takes packets in every mode.
            let gateway = self.next_hops.elsewhere(destination)?;
            self.settings.peers.accept(gateway).then_some(gateway)
        })
    }

    fn join(&mut self, to: Ipv4Addr, packet: &TcpPacket, size: Option<u16>) -> Option<Mac> {
        let joiner = self.settings.joiner?;
        if !self.streams.join(packet, size.is_some(), self.now) {
            return None;
        }
        // The packet filter, which decides about what raw sockets send, does not see these.
        if !self.settings.peers.accept(to) {
            return None;
        }
        let hop = self.next_hops.hop(to)?;
        let mtu = hop.mtu.unwrap_or(joiner.mtu).min(joiner.mtu) as usize;
        let payload = size.map_or(packet.length, usize::from);
        let fits = ipv4::HEADER + packet.header_len + payload <= mtu;
        (fits && hop.interface == self.settings.underlay).then_some(hop.mac)
    }
}

impl<R: Routing> Outbound<R> {
    /// Until the other end of the orders is dropped.
    pub(super) fn run(mut self) {
        let mut frames = Received::new(FRAMES);
        let mut queue = Queue::default();
        loop {
            match self.orders.next() {
                Order::Nothing => {}
                Order::Settings(settings) => self.follow(settings),
                Order::Stop => return,
            }
            match frames.receive(&self.tap) {
                Ok(count) => self.batch(&mut frames, count, &mut queue),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.orders.wait(&self.tap, &mut frames);
                }
                Err(error) => self.refused(&error),
            }
        }
    }

    fn follow(&mut self, settings: Arc<Settings>) {
        if settings.joiner != self.settings.joiner {
            self.launcher = launcher(&settings);
        }
        self.settings = settings;
    }

    fn batch(&mut self, frames: &mut Received, count: usize, queue: &mut Queue) {
        self.next_hops.refresh();
        let now = Instant::now();
        let mac = self
            .settings
            .joiner
            .map_or(Mac([0; 6]), |joiner| joiner.mac);
        for slot in 0..count {
            let Some(at) = frames.packet(slot) else {
                self.drops.count(Drop::Truncated);
                continue;
            };
            let mut ways = Kernel {
                next_hops: &mut self.next_hops,
                streams: &mut self.streams,
                settings: &self.settings,
                now,
            };
            let result = encapsulate(
                &mut frames.buffer()[at.clone()],
                self.settings.node_address,
                &mut ways,
                |outer| queue.push(&outer, at.start, mac),
            );
            if let Err(reason) = result {
                self.drops.count(reason);
            }
            if queue.packets.len() >= PACKETS {
                self.flush(frames, queue);
            }
        }
        self.flush(frames, queue);
    }

    fn flush(&self, frames: &mut Received, queue: &mut Queue) {
        let sockets = [&self.sender, self.launcher.as_ref().unwrap_or(&self.sender)];
        queue.packets.flush(&sockets, frames.buffer(), |error| {
            self.drops.count(Drop::on_sending(error));
        });
    }

    fn refused(&self, error: &io::Error) {
        match error.raw_os_error() {
            // A super-packet that has no name in a virtio header.
            Some(nix::libc::EINVAL) => self.drops.count(Drop::SentUnknownGso),
            // The interface went down. When it is up again the socket goes on.
            _ => tracing::debug!("userspace: receive from the tunnel: {error}"),
        }
    }
}

/// The socket on the joiner, where there is one.
pub(super) fn launcher(settings: &Settings) -> Option<OwnedFd> {
    let joiner = settings.joiner?;
    socket::launcher(joiner.segments)
        .inspect_err(|error| tracing::warn!("userspace: no segments are joined: {error}"))
        .ok()
}
