//! The thread of a capture set: reads the taps, keeps what they saw, and writes the file.
//!
//! It is a thread, not a task: a test that keeps its runtime busy must not lose packets.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{Shared, State};

/// How long packets are let come in before they are read, in milliseconds, while nobody waits
/// for them: one round of the thread for many packets.
const ROUND: u16 = 10;

/// A tap with so many packets in one round is busy: there may be no room for those of another
/// round without reading.
const BUSY: u64 = 256;

/// Tells the wake-up apart from the taps, which are numbered.
const WAKE: u64 = u64::MAX;

/// Taps that one call tells of; the others come with the next.
const EVENTS: usize = 256;

/// More packets than the kernel's buffer can hold: reading as many reads all that were there.
const BACKLOG: usize = 1 << 18;

/// What the thread waits for.
pub(super) struct Pump {
    epoll: Epoll,
    shared: Arc<Shared>,
}

impl Pump {
    pub(super) fn new(shared: Arc<Shared>) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&shared.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        {
            let state = shared.lock();
            for (number, tap) in (0..).zip(&state.taps) {
                epoll.add(&tap.socket, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
            }
        }
        Ok(Self { epoll, shared })
    }

    /// Runs until the set is dropped.
    pub(super) fn run(self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let (mut pending, mut busy) = (false, false);
        while !self.shared.ended.load(Ordering::Acquire) {
            let timeout = match pending {
                true => EpollTimeout::from(ROUND),
                false => EpollTimeout::NONE,
            };
            match self.epoll.wait(&mut events, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            if !busy && self.shared.waiting.load(Ordering::Acquire) == 0 {
                self.let_packets_come();
            }
            self.shared.wake.read().ok();
            let complete = SystemTime::now();
            // Asked again: by now others may have packets, too.
            let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::ZERO) else {
                continue;
            };
            let ready = events[..count].iter().map(EpollEvent::data);
            let ready: Vec<usize> = ready.filter_map(|tap| usize::try_from(tap).ok()).collect();
            // Where not all taps fitted, a later packet of one may be older than those of others.
            let complete = (count < EVENTS).then_some(complete);
            (pending, busy) = self.round(&ready, complete);
        }
    }

    fn let_packets_come(&self) {
        let mut wake = [PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)];
        poll(&mut wake, PollTimeout::from(ROUND)).ok();
    }

    /// Reads the taps that are ready. Whether packets wait to be written, and whether a tap is busy.
    fn round(&self, ready: &[usize], complete: Option<SystemTime>) -> (bool, bool) {
        let mut state = self.shared.lock();
        let mut most = 0;
        for &tap in ready {
            most = most.max(state.receive(tap));
            if let Some(tap) = state.taps.get(tap)
                && tap.failure.is_some()
            {
                // It would be ready for ever.
                self.epoll.delete(&tap.socket).ok();
            }
        }
        state.write(complete.unwrap_or(SystemTime::UNIX_EPOCH));
        let pending = state.file.as_ref().is_some_and(|file| file.is_pending());
        drop(state);
        if most > 0 {
            self.shared.news.send_modify(|rounds| *rounds += 1);
        }
        (pending, most > BUSY)
    }
}

impl Shared {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Every step leaves the state usable; a panic elsewhere does not change that.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state with all packets that passed a tap before this call.
    pub(super) fn up_to_date(&self) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.lock();
        let complete = SystemTime::now();
        let mut new = false;
        for tap in 0..state.taps.len() {
            new |= state.receive(tap) > 0;
        }
        state.write(complete);
        if new {
            self.news.send_modify(|rounds| *rounds += 1);
        }
        state
    }
}

impl State {
    /// Takes all packets of a tap out of the kernel, and returns how many that were.
    fn receive(&mut self, number: usize) -> u64 {
        let Self {
            taps, buffer, file, ..
        } = self;
        let Some(tap) = taps.get_mut(number) else {
            return 0;
        };
        let before = tap.store.count();
        for _ in 0..BACKLOG {
            match tap.socket.receive(buffer) {
                Ok(frame) => {
                    if let Some(file) = file {
                        file.push(number as u32, frame.clone());
                    }
                    tap.store.push(frame);
                }
                Err(Errno::EINTR) => {}
                // Said once when the device goes down, or is removed, which the socket tells. Packets
                // come again when it is up.
                Err(Errno::ENETDOWN) => {}
                Err(Errno::EAGAIN) => break,
                Err(errno) => {
                    tap.failure = Some(errno);
                    break;
                }
            }
        }
        let new = tap.store.count() - before;
        if new > 0
            && let Ok(drops @ 1..) = tap.socket.take_drops()
        {
            tap.dropped += drops;
            if let Some(file) = file {
                file.lost(number as u32, tap.dropped);
            }
        }
        new
    }

    /// Writes to the file what is older than `complete`. A file that fails once is given up.
    pub(super) fn write(&mut self, complete: SystemTime) {
        if self.file_error.is_none()
            && let Some(file) = &mut self.file
            && let Err(error) = file.flush(Some(complete))
        {
            self.file_error = Some(Arc::new(error));
        }
    }

    /// Writes the rest of the file and its statistics.
    pub(super) fn finish(&mut self) {
        for (number, tap) in (0..).zip(&mut self.taps) {
            if let Ok(drops @ 1..) = tap.socket.take_drops() {
                tap.dropped += drops;
                if let Some(file) = &mut self.file {
                    file.lost(number, tap.dropped);
                }
            }
            if let Some(file) = &mut self.file
                && tap.socket.is_gone()
            {
                file.gone(number);
            }
        }
        if self.file_error.is_none()
            && let Some(file) = &mut self.file
            && let Err(error) = file.finish()
        {
            self.file_error = Some(Arc::new(error));
        }
    }
}
