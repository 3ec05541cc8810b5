//! What is kept in memory of one tap: the newest packets, up to a limit.

use std::collections::VecDeque;
use std::mem;

use crate::capture::socket::Frame;
use crate::capture::{Captured, Tap};
use crate::packet::LinkType;

/// What a packet costs beside its bytes: headers as typed values, bookkeeping.
const OVERHEAD: usize = 512;

/// The newest packets of a tap. Frames are decoded when somebody looks at them.
#[derive(Debug)]
pub(super) struct Store {
    tap: Tap,
    link_type: LinkType,
    kept: VecDeque<Kept>,
    /// Bytes in use.
    bytes: usize,
    limit: usize,
    /// Packets that were driven out.
    forgotten: u64,
}

#[derive(Debug)]
enum Kept {
    Frame(Frame),
    /// Ten times as large; of most packets nobody asks for it.
    Decoded(Box<Captured>),
}

impl Store {
    pub(super) fn new(tap: Tap, link_type: LinkType, limit: usize) -> Self {
        Self {
            tap,
            link_type,
            kept: VecDeque::new(),
            bytes: 0,
            limit,
            forgotten: 0,
        }
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes.len() + OVERHEAD;
        self.kept.push_back(Kept::Frame(frame));
        while self.bytes > self.limit
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.length() + OVERHEAD;
            self.forgotten += 1;
        }
    }

    /// How many packets there were, those included that were driven out.
    pub(super) fn count(&self) -> u64 {
        self.forgotten + self.kept.len() as u64
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The packets from number `from` on, as far as they are still there.
    pub(super) fn packets(&mut self, from: u64) -> impl Iterator<Item = Captured> {
        let skip = usize::try_from(from.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        let (link_type, tap) = (self.link_type, &self.tap);
        let kept = self.kept.iter_mut().skip(skip);
        kept.map(move |kept| kept.decoded(link_type, tap).clone())
    }
}

impl Kept {
    fn length(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.bytes.len(),
            Self::Decoded(captured) => captured.packet.bytes().len(),
        }
    }

    fn decoded(&mut self, link_type: LinkType, tap: &Tap) -> &Captured {
        if let Self::Frame(frame) = self {
            let frame = mem::replace(frame, Frame::empty());
            *self = Self::Decoded(Box::new(frame.captured(link_type, tap.shared())));
        }
        match self {
            Self::Decoded(captured) => captured,
            Self::Frame(_) => unreachable!("it was decoded above"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(limit: usize) -> Store {
        Store::new(Tap::new("n1", "eth0"), LinkType::Ip, limit)
    }

    fn frame(length: usize) -> Frame {
        Frame {
            wire_length: length,
            bytes: vec![0; length].into(),
            ..Frame::empty()
        }
    }

    fn lengths(store: &mut Store, from: u64) -> Vec<usize> {
        let packets = store.packets(from);
        packets.map(|captured| captured.original_length).collect()
    }

    #[test]
    fn the_newest_packets_are_kept_and_the_others_counted() {
        let mut store = store(3 * (100 + OVERHEAD));
        for length in [100, 99, 98, 97, 96] {
            store.push(frame(length));
            // Decoded ones count as much as those that nobody has looked at.
            store.packets(0).for_each(drop);
        }
        assert_eq!(lengths(&mut store, 0), [98, 97, 96]);
        assert_eq!((store.count(), store.forgotten()), (5, 2));
        assert_eq!(lengths(&mut store, 3), [97, 96]);
        assert_eq!(lengths(&mut store, 5), [0; 0]);
    }

    #[test]
    fn one_packet_that_is_too_large_leaves_nothing() {
        let mut store = store(1000);
        store.push(frame(100));
        store.push(frame(1000));
        assert_eq!((store.count(), store.forgotten(), store.bytes), (2, 2, 0));
    }
}
