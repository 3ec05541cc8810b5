//! A timeline at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

use super::TimelineError;
use super::engine::Engine;
use super::report::Outages;
use crate::error::Error;
use crate::event::{EventLog, Kind};
use crate::suite;

/// A timeline that probes. It ends with [`stop`](Self::stop); one that is dropped instead makes the
/// test fail, or panics where no test of a [suite](mod@crate::suite) runs: nobody has looked at what
/// it found.
#[derive(Debug)]
#[must_use = "what it finds is told by `stop`"]
pub struct Timeline {
    events: EventLog,
    signal: Arc<Signal>,
    /// Taken when it is stopped.
    outages: Option<oneshot::Receiver<Outages>>,
}

/// How a timeline's thread is told to stop.
#[derive(Debug)]
pub(super) struct Signal {
    stop: AtomicBool,
    /// Nobody waits for what it found.
    dropped: AtomicBool,
    pub(super) wake: EventFd,
}

impl Signal {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Err(error) = self.wake.write(1) {
            // It looks at the flag at the latest when the next probe is due.
            tracing::debug!(%error, "wake the timeline");
        }
    }
}

impl Timeline {
    pub(super) async fn start(engine: Engine) -> Result<Self, Error> {
        let failed = |operation| {
            move |source| TimelineError::Socket {
                pair: "all".to_owned(),
                operation,
                source,
            }
        };
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| failed("make an eventfd")(errno.into()))?;
        let signal = Arc::new(Signal {
            stop: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            wake,
        });
        let (ready, started) = oneshot::channel();
        let (found, outages) = oneshot::channel();
        let timeline = Self {
            events: engine.events.clone(),
            signal: Arc::clone(&signal),
            outages: Some(outages),
        };
        std::thread::Builder::new()
            .name("podlab-timeline".to_owned())
            .spawn(move || {
                if let Some(outages) = engine.run(&signal, ready) {
                    // Nobody waits when the timeline was dropped.
                    found.send(outages).unwrap_or_default();
                }
            })
            .map_err(failed("start a thread"))?;
        match started.await {
            Ok(Ok(())) => Ok(timeline),
            Ok(Err(error)) => Err(timeline.never_began(error)),
            Err(_) => Err(timeline.never_began(TimelineError::Gone)),
        }
    }

    fn never_began(mut self, error: TimelineError) -> Error {
        self.outages = None;
        error.into()
    }

    /// Marks this moment: what is lost afterwards is told as lost after it. Faults, changes of the
    /// cluster and what becomes of its agents are marks by themselves.
    pub fn mark(&self, text: impl Into<String>) {
        self.events.note(text);
    }

    /// Stops probing, waits for the answers that are still on their way, and tells what was lost.
    ///
    /// # Errors
    /// [`TimelineError::Gone`] when its thread has panicked.
    pub async fn stop(mut self) -> Result<Outages, Error> {
        self.signal.stop();
        let outages = self.outages.take().ok_or(TimelineError::Gone)?;
        Ok(outages.await.map_err(|_| TimelineError::Gone)?)
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        if self.outages.is_none() {
            return;
        }
        self.signal.dropped.store(true, Ordering::Release);
        self.signal.stop();
        let text = "a timeline was started, and what it found was never looked at";
        self.events.record(Kind::AssertionFailed {
            assertion: "a timeline that was started is stopped".to_owned(),
            found: text.to_owned(),
            pair: None,
            asked: None,
        });
        // A panic that is under way must stay the one that is reported.
        if !suite::add_failure(text) && !std::thread::panicking() {
            panic!("{text}\nhint: end it with .stop().await");
        }
    }
}
