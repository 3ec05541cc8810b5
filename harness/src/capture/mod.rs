//! Capturing in-process, on any device of any network namespace.
//!
//! A [`CaptureSet`] taps many devices of a cluster at once and writes one pcapng file while it
//! runs. A [`Capture`] has one device; it is what a set is too large for.
//!
//! A capture has two steps, because a network namespace belongs to a thread and the work to the
//! runtime: [`CaptureSocket::open`] in a thread that stands in the namespace, then
//! [`Capture::start`] on the runtime. Packets are kept by the kernel from the first step on.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use podlab::capture::{Capture, CaptureSocket, Filter, save_pcapng};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let socket = CaptureSocket::open("eth0", &Filter::protocol(4))?;
//! let capture = Capture::start(socket, "k8s-worker-1/eth0")?;
//! let syn = capture
//!     .wait_for(|seen| seen.packet.tcp().is_some(), Duration::from_secs(2))
//!     .await?;
//! println!("{syn}");
//! let recording = capture.stop().await?;
//! save_pcapng("walk.pcapng".as_ref(), &[recording])?;
//! # Ok(())
//! # }
//! ```

mod archive;
mod error;
mod filter;
mod pcapng;
mod program;
mod recording;
mod ring;
mod set;
mod socket;
mod tap;
mod time_stamps;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use archive::ARCHIVE_VARIABLE;
pub use error::CaptureError;
pub use filter::Filter;
pub use pcapng::{PcapngError, read_pcapng, read_pcapng_from, save_pcapng, write_pcapng};
pub use recording::{Captured, Direction, Recording};
pub use set::{CaptureBuilder, CaptureSet, Losses};
pub use socket::CaptureSocket;
pub use tap::Tap;
pub use time_stamps::TimeStamps;

use crate::event::{EventLog, Kind};
use crate::packet::LinkType;
use crate::patience::scaled;
use socket::ReceiveBuffer;

/// Packets to read before other tasks get their turn.
const BATCH: usize = 256;

/// More packets than the kernel's buffer can hold: reading as many reads all that were there when
/// the reading began, and ends even when packets come in faster than they are read.
const BACKLOG: usize = 1 << 18;

/// A running capture. Dropping it ends it and forgets its packets.
pub struct Capture {
    shared: Arc<Shared>,
    /// The pump. Dropping the set aborts it.
    pump: JoinSet<()>,
    /// The log of the cluster that it belongs to.
    events: Option<EventLog>,
}

struct Shared {
    name: Arc<str>,
    socket: AsyncFd<CaptureSocket>,
    store: Mutex<Store>,
    /// How many packets there are.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Store {
    packets: Vec<Captured>,
    /// Absent until the first packet is read.
    buffer: Option<ReceiveBuffer>,
    /// The kernel had no more packets when it was asked last.
    up_to_date: bool,
    /// Why nothing can be received any more.
    failure: Option<Errno>,
    /// Packets that were lost so far.
    dropped: u64,
}

/// Does it to each, a thread each: the kernel takes some ten milliseconds for every packet socket
/// that gets a ring, and does not mind many at a time.
pub(crate) fn at_once<T: Sync, R: Send>(each: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let act = &act;
        let threads = each.iter().map(|one| scope.spawn(move || act(one)));
        let threads: Vec<_> = threads.collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

impl Capture {
    /// Starts to receive from `socket` on the current tokio runtime.
    ///
    /// `name` says in messages and files where the tap is: `node/device`.
    ///
    /// # Errors
    ///
    /// There is no current runtime, or it does not take the socket.
    ///
    /// # Panics
    ///
    /// When the runtime was built without I/O.
    pub fn start(
        socket: CaptureSocket,
        name: impl Into<Arc<str>>,
    ) -> Result<Capture, CaptureError> {
        let name = name.into();
        let failed = |source| CaptureError::System {
            operation: "start a capture",
            device: name.to_string(),
            source,
        };
        let runtime = Handle::try_current().map_err(|error| failed(io::Error::other(error)))?;
        // SAFETY: the socket owns its descriptor, gives out the same one each time, and keeps it
        // open until it is dropped, which the AsyncFd does itself.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(|error| failed(error.into()))?;
        let shared = Arc::new(Shared {
            socket,
            store: Mutex::default(),
            count: watch::Sender::new(0),
            name,
        });
        let mut pump = JoinSet::new();
        pump.spawn_on(Arc::clone(&shared).pump(), &runtime);
        Ok(Capture {
            shared,
            pump,
            events: None,
        })
    }

    /// [`start`](Self::start), told in the event log.
    pub(crate) fn start_told(
        socket: CaptureSocket,
        name: impl Into<Arc<str>>,
        filter: &Filter,
        events: EventLog,
    ) -> Result<Capture, CaptureError> {
        let mut capture = Self::start(socket, name)?;
        events.record(Kind::CaptureStarted {
            capture: capture.name().to_owned(),
            filter: filter.to_string(),
        });
        capture.events = Some(events);
        Ok(capture)
    }

    /// Name of the capture, `node/device`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What the packets begin with.
    #[must_use]
    pub fn link_type(&self) -> LinkType {
        self.shared.socket.get_ref().link_type()
    }

    /// All packets that passed the tap before this call.
    #[must_use]
    pub fn packets(&self) -> Vec<Captured> {
        self.shared.receive(BACKLOG).packets.clone()
    }

    /// Waits until a packet for which `predicate` is true has been captured, and returns the first
    /// such. Packets captured before the call count.
    ///
    /// # Errors
    ///
    /// [`CaptureError::NotSeen`] after `within` (scaled by the patience factor), with what was
    /// captured instead; or the capture itself failed.
    pub async fn wait_for(
        &self,
        mut predicate: impl FnMut(&Captured) -> bool,
        within: Duration,
    ) -> Result<Captured, CaptureError> {
        let mut checked = 0;
        self.wait_until(
            |packets| {
                let new = packets.get(checked..).unwrap_or_default();
                checked = packets.len();
                new.iter().find(|captured| predicate(captured)).cloned()
            },
            within,
        )
        .await
    }

    /// Waits until `evaluate` finds what it looks for in all packets so far, and returns that.
    ///
    /// # Errors
    ///
    /// As [`Capture::wait_for`].
    pub async fn wait_until<T>(
        &self,
        mut evaluate: impl FnMut(&[Captured]) -> Option<T>,
        within: Duration,
    ) -> Result<T, CaptureError> {
        let within = scaled(within)?;
        let mut count = self.shared.count.subscribe();
        let mut seen = Vec::new();
        let search = async {
            loop {
                let failure = {
                    let store = self.shared.receive(BACKLOG);
                    seen.extend(store.packets.iter().skip(seen.len()).cloned());
                    store.failure
                };
                if let Some(found) = evaluate(&seen) {
                    return Ok(found);
                }
                if let Some(errno) = failure {
                    return Err(self.shared.receive_error(errno.into()));
                }
                // The sender lives as long as `self`.
                if count.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let result = tokio::time::timeout(within, search).await;
        result.unwrap_or_else(|_| {
            Err(CaptureError::NotSeen {
                device: self.name().to_owned(),
                within,
                seen,
            })
        })
    }

    /// Packets that passed the filter and were lost so far, because they came faster than they
    /// were read.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn dropped(&self) -> Result<u64, CaptureError> {
        let mut store = self.shared.receive(BACKLOG);
        store.dropped += self.shared.take_drops()?;
        Ok(store.dropped)
    }

    /// What is missing.
    pub(crate) fn losses(&self) -> Result<Losses, CaptureError> {
        Ok(Losses {
            dropped: self.dropped()?,
            forgotten: 0,
            gone: self.shared.socket.get_ref().is_gone(),
        })
    }

    /// Asks `evaluate` now and whenever packets came in; `None` when the time is up. `within` is
    /// taken as it is.
    pub(crate) async fn until<T>(
        &self,
        mut evaluate: impl FnMut() -> Option<T>,
        within: Duration,
    ) -> Option<T> {
        let mut count = self.shared.count.subscribe();
        let search = async {
            loop {
                count.borrow_and_update();
                if let Some(found) = evaluate() {
                    return found;
                }
                // The sender lives as long as `self`.
                if count.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(within, search).await.ok()
    }

    /// The log of the cluster that it belongs to.
    pub(crate) fn events(&self) -> Option<&EventLog> {
        self.events.as_ref()
    }

    /// Ends the capture and returns every packet that passed the tap before this call.
    ///
    /// # Errors
    ///
    /// The socket failed, now or while the capture ran.
    pub async fn stop(mut self) -> Result<Recording, CaptureError> {
        self.pump.shutdown().await;
        let shared = &self.shared;
        let socket = shared.socket.get_ref();
        socket
            .close_filter()
            .map_err(|source| shared.receive_error(source))?;
        let mut store = shared.receive(usize::MAX);
        if let Some(errno) = store.failure {
            return Err(shared.receive_error(errno.into()));
        }
        let dropped = store.dropped + shared.take_drops()?;
        if let Some(events) = &self.events {
            events.record(Kind::CaptureStopped {
                capture: shared.name.to_string(),
                packets: store.packets.len() as u64,
                dropped,
            });
        }
        let recording = shared.recording(&mut store, dropped);
        archive::put(std::slice::from_ref(&recording));
        Ok(recording)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // After `stop` there are no packets left.
        if archive::is_wanted() {
            let mut store = self.shared.receive(BACKLOG);
            let dropped = store.dropped;
            archive::put(&[self.shared.recording(&mut store, dropped)]);
        }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Receives whenever the kernel has packets.
    async fn pump(self: Arc<Self>) {
        while let Ok(mut ready) = self.socket.readable().await {
            let (up_to_date, failed) = {
                let store = self.receive(BATCH);
                (store.up_to_date, store.failure.is_some())
            };
            if failed {
                return;
            }
            if up_to_date {
                ready.clear_ready();
            }
            drop(ready);
            tokio::task::yield_now().await;
        }
    }

    /// Takes up to `limit` packets out of the kernel into the store.
    fn receive(&self, limit: usize) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let Store {
            packets,
            buffer,
            up_to_date,
            failure,
            ..
        } = &mut *store;
        let buffer = buffer.get_or_insert_with(ReceiveBuffer::new);
        *up_to_date = false;
        for _ in 0..limit {
            match self.socket.get_ref().receive(buffer) {
                Ok(frame) => {
                    let link_type = self.socket.get_ref().link_type();
                    packets.push(frame.captured(link_type, Arc::clone(&self.name)));
                }
                Err(Errno::EAGAIN) => {
                    *up_to_date = true;
                    break;
                }
                Err(Errno::EINTR) => {}
                // Said once when the device goes down; packets come again when it is up.
                Err(Errno::ENETDOWN) => {
                    tracing::debug!(capture = %self.name, "the device went down");
                }
                Err(errno) => {
                    *failure = Some(errno);
                    break;
                }
            }
        }
        self.count
            .send_if_modified(|count| std::mem::replace(count, packets.len()) != packets.len());
        if failure.is_some() {
            // Wakes those who wait, so that they see it.
            self.count.send_modify(|_| {});
        }
        store
    }

    /// Everything that was received, taken out of the store.
    fn recording(&self, store: &mut Store, dropped: u64) -> Recording {
        Recording {
            device: self.name.to_string(),
            link_type: self.socket.get_ref().link_type(),
            packets: std::mem::take(&mut store.packets),
            dropped,
            forgotten: 0,
            gone: self.socket.get_ref().is_gone(),
        }
    }

    fn take_drops(&self) -> Result<u64, CaptureError> {
        let drops = self.socket.get_ref().take_drops();
        drops.map_err(|source| self.receive_error(source))
    }

    fn receive_error(&self, source: io::Error) -> CaptureError {
        CaptureError::System {
            operation: "receive",
            device: self.name.to_string(),
            source,
        }
    }
}
