//! The log: bounded, shared, in the order in which things happened.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::broadcast;

use super::sink::{self, Sink};
use super::{Attachment, Event, How, Kind, Probe};

/// How far a subscriber may be behind before it misses events.
const SUBSCRIBER_CAPACITY: usize = 4096;

/// The events of one cluster. Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub struct EventLog {
    inner: Arc<Inner>,
}

struct Inner {
    /// Numbers the clusters of this process.
    cluster: u64,
    start: Instant,
    probes: AtomicU64,
    store: Mutex<Store>,
    live: broadcast::Sender<Arc<Event>>,
}

#[derive(Default)]
struct Store {
    next: u64,
    /// Probes apart from all others, so that neither drives the other out.
    probes: VecDeque<Arc<Event>>,
    others: VecDeque<Arc<Event>>,
    sinks: Vec<Arc<dyn Sink>>,
    attachments: Vec<Attachment>,
}

/// A probe that was sent and whose end is to be told.
#[derive(Debug)]
#[must_use = "tell how it ended"]
pub struct ProbeRecord {
    log: EventLog,
    machine: String,
    probe: Probe,
    sent: Instant,
}

impl EventLog {
    /// How many events about probes are kept, and how many others.
    pub const CAPACITY: usize = 8192;

    /// An empty log that begins now, with the sinks that the environment asks for
    /// ([`VARIABLE`](super::VARIABLE)).
    pub fn new() -> Self {
        static CLUSTERS: AtomicU64 = AtomicU64::new(1);
        let store = Store {
            sinks: sink::from_environment(),
            ..Store::default()
        };
        Self {
            inner: Arc::new(Inner {
                cluster: CLUSTERS.fetch_add(1, Ordering::Relaxed),
                start: Instant::now(),
                probes: AtomicU64::new(0),
                store: Mutex::new(store),
                live: broadcast::Sender::new(SUBSCRIBER_CAPACITY),
            }),
        }
    }

    /// The number of the cluster in this process, from 1: sinks that hear of several clusters
    /// tell them apart by it.
    pub fn cluster(&self) -> u64 {
        self.inner.cluster
    }

    /// Writes an event of the cluster as a whole.
    pub fn record(&self, kind: Kind) {
        self.write(None, kind);
    }

    /// Writes an event of one machine.
    pub fn record_at(&self, machine: impl Into<String>, kind: Kind) {
        self.write(Some(machine.into()), kind);
    }

    /// Tells the reader of a report something.
    pub fn note(&self, text: impl Into<String>) {
        self.record(Kind::Note { text: text.into() });
    }

    /// Writes that a probe leaves `machine`; the value that is returned tells how it ended.
    pub fn probe(
        &self,
        machine: impl Into<String>,
        to: impl Into<IpAddr>,
        how: How,
    ) -> ProbeRecord {
        let record = ProbeRecord {
            log: self.clone(),
            machine: machine.into(),
            probe: Probe {
                probe: self.inner.probes.fetch_add(1, Ordering::Relaxed),
                to: to.into(),
                how,
            },
            sent: Instant::now(),
        };
        let probe = record.probe.clone();
        self.record_at(record.machine.clone(), Kind::ProbeSent { probe });
        record
    }

    /// Keeps a result for the report of a failed test, in the place of the last one of its name.
    pub fn attach(&self, attachment: Attachment) {
        let mut store = self.store();
        let attachments = &mut store.attachments;
        attachments.retain(|kept| kept.name != attachment.name);
        attachments.push(attachment);
    }

    /// The last result of each name, the latest last.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.store().attachments.clone()
    }

    /// Everything that is kept, in the order in which it happened.
    pub fn all(&self) -> Vec<Arc<Event>> {
        let store = self.store();
        let events = store.probes.iter().chain(&store.others).cloned();
        let mut events: Vec<Arc<Event>> = events.collect();
        drop(store);
        events.sort_unstable_by_key(|event| event.number);
        events
    }

    /// How many events were written, those included that are not kept any more.
    pub fn count(&self) -> u64 {
        self.store().next
    }

    /// The events from now on. A receiver that is more than 4,096 events behind is told so and
    /// goes on with the oldest that there still are.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.inner.live.subscribe()
    }

    /// Tells `sink` everything that is kept, and every event from now on.
    pub fn add_sink(&self, sink: Arc<dyn Sink>) {
        let past = self.all();
        let mut store = self.store();
        let told = past.last().map_or(0, |event| event.number + 1);
        for event in &past {
            sink.event(self.inner.cluster, event);
        }
        // What was written between the two lines above.
        let mut missed: Vec<_> = store.probes.iter().chain(&store.others).cloned().collect();
        missed.retain(|event| event.number >= told);
        missed.sort_unstable_by_key(|event| event.number);
        for event in &missed {
            sink.event(self.inner.cluster, event);
        }
        store.sinks.push(sink);
    }

    /// The time since the log began.
    pub fn elapsed(&self) -> Duration {
        self.inner.start.elapsed()
    }

    fn write(&self, machine: Option<String>, kind: Kind) {
        let is_probe = kind.is_probe();
        let mut store = self.store();
        // Under the lock, so that times are in the order of the numbers.
        let event = Arc::new(Event {
            number: store.next,
            at: self.inner.start.elapsed(),
            wall: SystemTime::now(),
            machine,
            kind,
        });
        store.next += 1;
        let ring = match is_probe {
            true => &mut store.probes,
            false => &mut store.others,
        };
        if ring.len() == Self::CAPACITY {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&event));
        for sink in &store.sinks {
            sink.event(self.inner.cluster, &event);
        }
        if self.inner.live.receiver_count() > 0 {
            // The last receiver may have gone this instant: then nobody wants it.
            self.inner.live.send(event).ok();
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // It is whole between any two calls, also when a sink has panicked.
        self.inner
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog")
            .field("cluster", &self.inner.cluster)
            .finish_non_exhaustive()
    }
}

impl ProbeRecord {
    /// It was answered; `answer` in a few words.
    pub fn answered(self, answer: impl Into<String>) {
        let kind = Kind::ProbeAnswered {
            probe: self.probe,
            after: self.sent.elapsed(),
            answer: answer.into(),
        };
        self.log.record_at(self.machine, kind);
    }

    /// It was not answered, or not as it should be.
    pub fn failed(self, error: impl fmt::Display) {
        let kind = Kind::ProbeFailed {
            probe: self.probe,
            after: self.sent.elapsed(),
            error: error.to_string(),
        };
        self.log.record_at(self.machine, kind);
    }

    /// Ends it by a result: [`answered`](Self::answered) in the words of `answer`, or
    /// [`failed`](Self::failed).
    pub fn ended<T, E: fmt::Display>(
        self,
        result: &Result<T, E>,
        answer: impl FnOnce(&T) -> String,
    ) {
        match result {
            Ok(value) => self.answered(answer(value)),
            Err(error) => self.failed(error),
        }
    }
}
