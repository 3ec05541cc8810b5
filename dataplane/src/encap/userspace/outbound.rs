//! The thread that takes what the node sends into the tunnel and sends it to other nodes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::control::{Order, Orders, Settings};
use super::drops::{Drop, Drops};
use super::next_hop::{NextHops, Routing};
use super::packet::encapsulate::{self, encapsulate};
use super::socket::batch::{Received, ToSend};

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
}

impl<R: Routing> Outbound<R> {
    /// Until the other end of the orders is dropped.
    pub(super) fn run(mut self) {
        let mut frames = Received::new(FRAMES);
        let mut queue = ToSend::new();
        loop {
            match self.orders.next() {
                Order::Nothing => {}
                Order::Settings(settings) => self.settings = settings,
                Order::Stop => return,
            }
            match frames.receive(&self.tap) {
                Ok(count) => self.batch(&mut frames, count, &mut queue),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.orders.wait(&self.tap);
                }
                Err(error) => self.refused(&error),
            }
        }
    }

    fn batch(
        &mut self,
        frames: &mut Received,
        count: usize,
        queue: &mut ToSend<{ encapsulate::HEADERS }>,
    ) {
        self.next_hops.refresh();
        for slot in 0..count {
            let Some(at) = frames.packet(slot) else {
                self.drops.count(Drop::Truncated);
                continue;
            };
            let result = encapsulate(
                &mut frames.buffer()[at.clone()],
                self.settings.node_address,
                |destination| self.next_hops.gateway(destination),
                |outer| {
                    let rest = outer.rest.start + at.start..outer.rest.end + at.start;
                    queue.push(Some(outer.to), &[outer.headers], &[rest]);
                },
            );
            if let Err(reason) = result {
                self.drops.count(reason);
            }
            if queue.len() >= PACKETS {
                self.flush(frames, queue);
            }
        }
        self.flush(frames, queue);
    }

    fn flush(&self, frames: &mut Received, queue: &mut ToSend<{ encapsulate::HEADERS }>) {
        queue.flush(&self.sender, frames.buffer(), |error| {
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
