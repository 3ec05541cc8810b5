//! The thread that takes what other nodes send and hands it to this one.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::control::{Order, Orders, Settings};
use super::drops::{Drop, Drops};
use super::packet::coalesce::Coalescer;
use super::packet::decapsulate::{self, Accept, Inner, decapsulate};
use super::packet::frame::{self, FrameHead};
use super::packet::vnet::Vnet;
use super::socket::batch::{Received, ToSend};
use super::socket::{self, SocketError};
use crate::mac::Mac;

/// Outer packets per batch; a super-packet of 64 KB arrives as 45 of them.
const PACKETS: usize = 128;
/// Outer super-packets per batch.
const SUPERS: usize = 16;

/// The addresses of both ends of the veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub tunnel: Mac,
    pub peer: Mac,
}

pub(super) struct Inbound {
    pub receiver: OwnedFd,
    pub super_tap: OwnedFd,
    pub injector: OwnedFd,
    pub ends: Ends,
    pub settings: Arc<Settings>,
    pub orders: Orders,
    pub drops: Arc<Drops>,
}

type Queue = ToSend<{ frame::HEADERS }>;

impl Inbound {
    /// Until the other end of the orders is dropped.
    pub(super) fn run(mut self) {
        let mut packets = Received::new(PACKETS);
        let mut supers = Received::new(SUPERS);
        let mut coalescer = Coalescer::default();
        let mut queue = Queue::new();
        loop {
            match self.orders.next() {
                Order::Nothing => {}
                Order::Settings(settings) => self.follow(settings),
                Order::Stop => return,
            }
            // Super-packets first: their socket sees a packet earlier than the other one.
            let some = self.received(supers.receive(&self.super_tap), |this, count| {
                this.supers(&mut supers, count, &mut queue);
            });
            let more = self.received(packets.receive(&self.receiver), |this, count| {
                this.packets(&mut packets, count, &mut coalescer, &mut queue);
            });
            if !some && !more {
                self.orders.wait(&[&self.super_tap, &self.receiver]);
            }
        }
    }

    /// Returns whether there was anything.
    fn received(&self, received: io::Result<usize>, take: impl FnOnce(&Self, usize)) -> bool {
        match received {
            Ok(count) => take(self, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                self.drops.count(Drop::ReceivedUnknownGso);
            }
            // The interface went down, for example.
            Err(error) => tracing::debug!("userspace: receive from other nodes: {error}"),
        }
        true
    }

    fn follow(&mut self, settings: Arc<Settings>) {
        let of = |s: &Settings| (s.underlay, s.underlay_mtu, s.node_address);
        if of(&settings) != of(&self.settings) {
            match open_super_tap(&settings) {
                Ok(socket) => self.super_tap = socket,
                // All that is lost is speed, and only from nodes on this host.
                Err(error) => tracing::warn!("userspace: {error}"),
            }
        }
        self.settings = settings;
    }

    fn packets(
        &self,
        packets: &mut Received,
        count: usize,
        coalescer: &mut Coalescer,
        queue: &mut Queue,
    ) {
        for slot in 0..count {
            let Some(at) = packets.packet(slot) else {
                self.drops.count(Drop::Truncated);
                continue;
            };
            if at.len() > self.settings.underlay_mtu as usize && !packets.was_fragmented(slot) {
                // The other socket's.
                continue;
            }
            match self.decapsulate(packets.buffer(), at) {
                Ok(inner) => coalescer.add(packets.buffer(), inner.at, inner.ip),
                Err(reason) => self.drops.count(reason),
            }
        }
        coalescer.drain(packets.buffer(), |delivery| match delivery {
            Ok(delivery) => {
                let head = FrameHead::new(&delivery.vnet, self.ends.peer, self.ends.tunnel);
                queue.push(None, &[head.bytes(), delivery.headers], delivery.pieces);
            }
            Err(reason) => self.drops.count(reason),
        });
        self.flush(packets, queue);
    }

    fn supers(&self, supers: &mut Received, count: usize, queue: &mut Queue) {
        for slot in 0..count {
            let result = match supers.packet(slot) {
                Some(at) => self.hand_on(supers.buffer(), at),
                None => Err(Drop::Truncated),
            };
            match result {
                Ok((vnet, at)) => {
                    let head = FrameHead::new(&vnet, self.ends.peer, self.ends.tunnel);
                    queue.push(None, &[head.bytes()], &[at]);
                }
                Err(reason) => self.drops.count(reason),
            }
        }
        self.flush(supers, queue);
    }

    fn hand_on(&self, buffer: &mut [u8], at: Range<usize>) -> Result<(Vnet, Range<usize>), Drop> {
        let (vnet, outer) = frame::parse(&mut buffer[at.clone()]).ok_or(Drop::ReceivedMalformed)?;
        let vnet = Vnet::parse(vnet).map_err(|_| Drop::ReceivedUnknownGso)?;
        let start = at.start + frame::PACKET_AT;
        let outer = start..start + outer.len();
        let inner = self.decapsulate(buffer, outer)?;
        let vnet = decapsulate::hand_on(&mut buffer[inner.at.clone()], &inner.ip, Some(&vnet))?;
        Ok((vnet, inner.at))
    }

    /// The inner packet's place is one in `buffer`.
    fn decapsulate(&self, buffer: &mut [u8], at: Range<usize>) -> Result<Inner, Drop> {
        let accept = Accept {
            node_address: self.settings.node_address,
            peers: &self.settings.peers,
        };
        let inner = decapsulate(&mut buffer[at.clone()], &accept)?;
        Ok(Inner {
            at: inner.at.start + at.start..inner.at.end + at.start,
            ip: inner.ip,
        })
    }

    fn flush(&self, received: &mut Received, queue: &mut Queue) {
        queue.flush(&self.injector, received.buffer(), |error| {
            self.drops.count(Drop::on_delivering(error));
        });
    }
}

pub(super) fn open_super_tap(settings: &Settings) -> Result<OwnedFd, SocketError> {
    socket::super_tap(
        settings.underlay,
        settings.underlay_mtu,
        settings.node_address,
    )
}
