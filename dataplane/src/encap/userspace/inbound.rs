//! The thread that takes what other nodes send and hands it to this one.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::control::{Order, Orders, Settings};
use super::drops::{Drop, Drops};
use super::packet::coalesce::Coalescer;
use super::packet::decapsulate::{Accept, decapsulate};
use super::packet::frame::{self, FrameHead};
use super::packet::split;
use super::socket;
use super::socket::batch::{Received, ToSend};
use crate::mac::Mac;

/// Outer packets per batch; a super-packet of 64 KB arrives as 45 of them.
const PACKETS: usize = 128;

/// The addresses of both ends of the veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub tunnel: Mac,
    pub peer: Mac,
}

pub(super) struct Inbound {
    pub receiver: OwnedFd,
    pub _claim: OwnedFd,
    pub injector: OwnedFd,
    pub ends: Ends,
    pub settings: Arc<Settings>,
    pub orders: Orders,
    pub drops: Arc<Drops>,
}

/// Before a packet: what packet sockets want, and headers of its own.
type Queue = ToSend<{ frame::PACKET_AT + split::HEADERS }>;

impl Inbound {
    /// Until the other end of the orders is dropped.
    pub(super) fn run(mut self) {
        let mut frames = Received::new(PACKETS);
        let mut coalescer = Coalescer::default();
        let mut queue = Queue::default();
        loop {
            match self.orders.next() {
                Order::Nothing => {}
                Order::Settings(settings) => self.follow(settings),
                Order::Stop => return,
            }
            match frames.receive(&self.receiver) {
                Ok(count) => self.batch(&mut frames, count, &mut coalescer, &mut queue),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.orders.wait(&self.receiver, &mut frames);
                }
                Err(error) => self.refused(&error),
            }
        }
    }

    fn follow(&mut self, settings: Arc<Settings>) {
        let of = |s: &Settings| (s.underlay, s.node_address);
        if of(&settings) != of(&self.settings) {
            match socket::receiver(settings.underlay, settings.node_address) {
                Ok(socket) => self.receiver = socket,
                Err(error) => tracing::error!("userspace: {error}"),
            }
        }
        self.settings = settings;
    }

    fn batch(
        &self,
        frames: &mut Received,
        count: usize,
        coalescer: &mut Coalescer,
        queue: &mut Queue,
    ) {
        let accept = Accept {
            node_address: self.settings.node_address,
            peers: &self.settings.peers,
        };
        for slot in 0..count {
            let Some(at) = frames.packet(slot) else {
                self.drops.count(Drop::Truncated);
                continue;
            };
            match decapsulate(&mut frames.buffer()[at.clone()], &accept) {
                Ok(inner) => {
                    let at = inner.at.start + at.start..inner.at.end + at.start;
                    coalescer.add(frames.buffer(), at, inner.ip, inner.vnet);
                }
                Err(reason) => self.drops.count(reason),
            }
        }
        coalescer.drain(frames.buffer(), |delivery| {
            let head = FrameHead::new(&delivery.vnet, self.ends.peer, self.ends.tunnel);
            queue.push(0, None, &[head.bytes(), delivery.headers], delivery.pieces);
        });
        queue.flush(&[&self.injector], frames.buffer(), |error| {
            self.drops.count(Drop::on_delivering(error));
        });
    }

    fn refused(&self, error: &io::Error) {
        match error.raw_os_error() {
            // A super-packet that has no name in a virtio header.
            Some(nix::libc::EINVAL) => self.drops.count(Drop::ReceivedUnknownGso),
            // The interface went down. When it is up again the socket goes on.
            _ => tracing::debug!("userspace: receive from other nodes: {error}"),
        }
    }
}
