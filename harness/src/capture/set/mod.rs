//! A capture set: many devices of a cluster, tapped at once, and one file of what they saw.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! let (a, b) = (cluster.pod("test-tools")?, cluster.pod("web")?);
//! let set = cluster.capture().path(&a, &b).start().await?;
//! a.ping(&b).await?;
//! for captured in set.packets() {
//!     println!("{captured}"); // all devices, in the order of time
//! }
//! println!("tshark -r {}", set.file().expect("it has one").display());
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! Memory is bounded: for each device the kernel holds at most 12 MiB of packets that were not read
//! yet, of which a ring has 4 MiB from the beginning ([`CaptureBuilder::kernel_memory`]), and the
//! process the newest 16 MiB ([`CaptureBuilder::memory`]). So a set of 40 devices takes at most
//! 1,120 MiB, and little while little passes: say less where many are busy. The file has at most
//! 256 MiB ([`CaptureBuilder::file_limit`]); beyond that its older half is removed, and its
//! section header says how many packets that were. What was lost, and what was forgotten, is
//! counted ([`CaptureSet::losses`]), and an expectation that needs every packet fails then.
//!
//! # What it does not see
//!
//! Devices that are made after the start. Those of a pod that is added later have to be tapped by
//! a set of their own. A device that is removed, as by the crash of its node, and made anew under
//! its name is another one: the tap says that its device is [gone](Losses::gone), and proves no
//! absence any more.

mod builder;
mod folder;
mod pump;
mod store;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::watch;

pub use builder::CaptureBuilder;

use super::pcapng::ContinuousFile;
use super::socket::ReceiveBuffer;
use super::{CaptureError, CaptureSocket, Captured, Recording, Tap, archive};
use crate::bundle::scope::Scope;
use crate::event::{EventLog, Kind};
use crate::patience::scaled;
use pump::Pump;
use store::Store;

/// A running capture on many devices. Dropping it ends it.
///
/// Packets are read by a thread of the set, and its file is no more than some 20 ms behind, so
/// that it tells what happened until a SIGKILL.
pub struct CaptureSet {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    taps: Vec<Tap>,
    /// Devices that cannot be captured on.
    skipped: Vec<Tap>,
    file: Option<PathBuf>,
    events: EventLog,
    /// The test that it belongs to, if somebody watches over one.
    scope: Option<Arc<Scope>>,
}

struct Shared {
    state: Mutex<State>,
    /// Counts rounds that brought packets.
    news: watch::Sender<u64>,
    /// How many wait for packets: then they are read at once.
    waiting: AtomicUsize,
    wake: EventFd,
    /// The set was dropped.
    ended: AtomicBool,
}

struct State {
    taps: Vec<TapState>,
    buffer: ReceiveBuffer,
    file: Option<ContinuousFile>,
    /// Why the file is not written any more.
    file_error: Option<Arc<io::Error>>,
    stopped: bool,
}

struct TapState {
    socket: CaptureSocket,
    store: Store,
    /// Lost by the kernel.
    dropped: u64,
    failure: Option<Errno>,
}

/// What is missing in the packets of a tap. Packets that were refused by the filter are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets that the kernel threw away, because they were not read fast enough. They are in
    /// no file either.
    pub dropped: u64,
    /// Older packets that had to make room in memory. The file may still have them.
    pub forgotten: u64,
    /// The device was removed: what passes one of its name that is made later is not seen.
    pub gone: bool,
}

impl Losses {
    /// Nothing is missing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            dropped,
            forgotten,
            gone,
        } = self;
        match (dropped, forgotten) {
            (0, 0) if *gone => return f.write_str("its device was removed"),
            (dropped, 0) => write!(f, "{dropped} packets lost")?,
            (0, forgotten) => write!(f, "{forgotten} packets forgotten")?,
            _ => write!(f, "{dropped} packets lost and {forgotten} forgotten")?,
        }
        match gone {
            true => f.write_str(", and its device was removed"),
            false => Ok(()),
        }
    }
}

impl CaptureSet {
    /// Starts to read what was opened.
    fn start(
        sockets: Vec<(Tap, CaptureSocket)>,
        memory: usize,
        file: Option<ContinuousFile>,
        events: EventLog,
    ) -> Result<Self, CaptureError> {
        let failed = |operation| {
            move |source: io::Error| CaptureError::System {
                operation,
                device: "a set of devices".to_owned(),
                source,
            }
        };
        let taps: Vec<Tap> = sockets.iter().map(|(tap, _)| tap.clone()).collect();
        let states = sockets.into_iter().map(|(tap, socket)| TapState {
            store: Store::new(tap, socket.link_type(), memory),
            socket,
            dropped: 0,
            failure: None,
        });
        let path = file.as_ref().map(|file| file.path().to_owned());
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| failed("make an event descriptor")(errno.into()))?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                taps: states.collect(),
                buffer: ReceiveBuffer::new(),
                file,
                file_error: None,
                stopped: false,
            }),
            news: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            wake,
            ended: AtomicBool::new(false),
        });
        let pump = Pump::new(Arc::clone(&shared))
            .map_err(|errno| failed("wait for packets")(errno.into()))?;
        let thread = Builder::new()
            .name("podlab-capture".to_owned())
            .spawn(move || pump.run())
            .map_err(failed("start a thread for captures"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            taps,
            skipped: Vec::new(),
            file: path,
            events,
            scope: None,
        })
    }

    /// Its taps, in the order in which they were asked for.
    #[must_use]
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// Devices of [`all`](CaptureBuilder::all), [`node`](CaptureBuilder::node) or
    /// [`machine`](CaptureBuilder::machine) that are of a kind whose packets cannot be read.
    #[must_use]
    pub fn skipped(&self) -> &[Tap] {
        &self.skipped
    }

    /// The pcapng file that is written. It is removed when the set is dropped, unless its path was
    /// chosen ([`CaptureBuilder::file`]), [`keep_file`](Self::keep_file) was called, or the test
    /// fails.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }

    /// Lets the file stay when the set is dropped.
    pub fn keep_file(&self) {
        if let Some(file) = &mut self.shared.lock().file {
            file.keep();
        }
    }

    /// All packets that passed a tap before this call and are still in memory, in the order of
    /// time.
    #[must_use]
    pub fn packets(&self) -> Vec<Captured> {
        let mut state = self.shared.up_to_date();
        let each = state.taps.iter_mut().flat_map(|tap| tap.store.packets(0));
        let mut packets: Vec<Captured> = each.collect();
        drop(state);
        packets.sort_by_key(|captured| captured.time);
        packets
    }

    /// All packets that passed one tap before this call and are still in memory, in the order in
    /// which the kernel saw them.
    ///
    /// # Errors
    ///
    /// The set has no such tap, or reading it failed.
    pub fn packets_at(&self, tap: &Tap) -> Result<Vec<Captured>, CaptureError> {
        Ok(self.at(tap, 0)?.0)
    }

    /// The packets of a tap from number `from` on, and what is missing of all of them.
    pub(crate) fn at(&self, tap: &Tap, from: u64) -> Result<(Vec<Captured>, Losses), CaptureError> {
        let number = self.number(tap)?;
        let mut state = self.shared.up_to_date();
        let state = &mut state.taps[number];
        if let Some(errno) = state.failure {
            return Err(CaptureError::System {
                operation: "receive",
                device: tap.to_string(),
                source: errno.into(),
            });
        }
        Ok((state.store.packets(from).collect(), state.losses()))
    }

    /// What is missing at one tap.
    ///
    /// # Errors
    ///
    /// The set has no such tap.
    pub fn losses_at(&self, tap: &Tap) -> Result<Losses, CaptureError> {
        let number = self.number(tap)?;
        Ok(self.shared.up_to_date().taps[number].losses())
    }

    /// What is missing at all taps together.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.shared.up_to_date().losses()
    }

    /// Lets no further packet in, and writes the rest of the file, with the numbers of lost
    /// packets. What was captured stays readable. A second call does nothing.
    ///
    /// # Errors
    ///
    /// The file could not be written, now or while the capture ran.
    pub fn stop(&self) -> Result<(), CaptureError> {
        let mut state = self.shared.lock();
        if !state.stopped {
            state.stopped = true;
            // What cannot be closed is only read for longer.
            state.taps.iter().for_each(|tap| {
                tap.socket.close_filter().ok();
            });
            drop(state);
            state = self.shared.up_to_date();
            state.finish();
            self.events.record(Kind::CaptureStopped {
                capture: self.to_string(),
                packets: state.taps.iter().map(|tap| tap.store.count()).sum(),
                dropped: state.losses().dropped,
            });
        }
        match (&state.file_error, &self.file) {
            (Some(error), Some(path)) => Err(CaptureError::System {
                operation: "write what was captured",
                device: path.display().to_string(),
                source: io::Error::new(error.kind(), Arc::clone(error)),
            }),
            _ => Ok(()),
        }
    }

    /// What is in memory, as one recording per tap.
    #[must_use]
    pub fn recordings(&self) -> Vec<Recording> {
        let mut state = self.shared.up_to_date();
        let each = self.taps.iter().zip(&mut state.taps);
        let recordings = each.map(|(tap, state)| Recording {
            device: tap.to_string(),
            link_type: state.socket.link_type(),
            packets: state.store.packets(0).collect(),
            dropped: state.dropped,
            forgotten: state.store.forgotten(),
            gone: state.socket.is_gone(),
        });
        recordings.collect()
    }

    /// Waits until a packet for which `predicate` is true has passed a tap, and returns the first
    /// such. Packets that passed before the call count.
    ///
    /// # Errors
    ///
    /// [`CaptureError::NotSeen`] after `within` (scaled by the patience factor), with what was
    /// captured instead; or the set has no such tap, or reading it failed.
    pub async fn wait_for(
        &self,
        tap: &Tap,
        mut predicate: impl FnMut(&Captured) -> bool,
        within: Duration,
    ) -> Result<Captured, CaptureError> {
        let within = scaled(within)?;
        let mut checked = 0;
        let search = || match self.at(tap, checked) {
            Ok((new, losses)) => {
                checked = checked.max(losses.forgotten) + new.len() as u64;
                new.into_iter().find(&mut predicate).map(Ok)
            }
            Err(error) => Some(Err(error)),
        };
        match self.wait_until(search, within).await {
            Some(result) => result,
            None => Err(CaptureError::NotSeen {
                device: tap.to_string(),
                within,
                seen: self.packets_at(tap)?,
            }),
        }
    }

    /// Asks `evaluate` now and whenever packets came in, until it answers or the time is up.
    /// `within` is taken as it is.
    pub(crate) async fn wait_until<T>(
        &self,
        mut evaluate: impl FnMut() -> Option<T>,
        within: Duration,
    ) -> Option<T> {
        let _waiting = Waiting::begin(&self.shared);
        let mut news = self.shared.news.subscribe();
        let search = async {
            loop {
                news.borrow_and_update();
                if let Some(found) = evaluate() {
                    return found;
                }
                // The sender lives as long as `self`.
                if news.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(within, search).await.ok()
    }

    /// The log of the cluster that it belongs to.
    pub(crate) fn events(&self) -> &EventLog {
        &self.events
    }

    fn number(&self, tap: &Tap) -> Result<usize, CaptureError> {
        let mut taps = self.taps.iter();
        taps.position(|own| own == tap)
            .ok_or_else(|| CaptureError::NoSuchTap {
                tap: tap.clone(),
                present: self.taps.clone(),
            })
    }

    fn end(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.wake.write(1).ok();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            thread.join().ok();
        }
    }
}

impl Drop for CaptureSet {
    fn drop(&mut self) {
        // Whoever wants to know whether the file is whole calls `stop` himself.
        self.stop().ok();
        if archive::is_wanted() {
            match &self.file {
                // It has more than what is in memory.
                Some(file) => archive::put_file(file),
                None => archive::put(&self.recordings()),
            }
        }
        match &self.scope {
            // It may be the evidence of a test that ends right now.
            Some(scope) => {
                let mut state = self.shared.lock();
                let file = state.file.as_mut().and_then(ContinuousFile::hand_over);
                drop(state);
                file.into_iter().for_each(|file| scope.leave_file(file));
            }
            None if std::thread::panicking() => self.keep_file(),
            None => {}
        }
        self.end();
    }
}

impl fmt::Debug for CaptureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureSet")
            .field("taps", &self.taps)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Its name in events and messages.
impl fmt::Display for CaptureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.taps {
            [tap] => tap.fmt(f),
            taps => write!(f, "of {} devices", taps.len()),
        }
    }
}

impl State {
    fn losses(&self) -> Losses {
        let each = self.taps.iter().map(TapState::losses);
        each.fold(Losses::default(), |sum, one| Losses {
            dropped: sum.dropped + one.dropped,
            forgotten: sum.forgotten + one.forgotten,
            gone: sum.gone || one.gone,
        })
    }
}

impl TapState {
    fn losses(&self) -> Losses {
        Losses {
            dropped: self.dropped,
            forgotten: self.store.forgotten(),
            gone: self.socket.is_gone(),
        }
    }
}

/// While it lives, packets are read as soon as they come.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::AcqRel);
        shared.wake.write(1).ok();
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
