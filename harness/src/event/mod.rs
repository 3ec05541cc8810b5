//! The event log: everything that the harness does and sees, one typed event each, with a time.
//!
//! A cluster has one log, [`Cluster::events`](crate::Cluster::events), from the first machine to
//! the last. Whoever wants to tell of it is a *sink*: terminal lines and JSON lines while it
//! happens ([`VARIABLE`]), the report and the bundle of a failed test afterwards.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) {
//! use podlab::event::Kind;
//!
//! for event in cluster.events().all() {
//!     if let Kind::AgentReady { after, .. } = &event.kind {
//!         println!("{event}, ready after {after:?}"); // +0.041 s k8s-worker-1: agent ready …
//!     }
//! }
//! cluster.events().note("from here on with the other MTU");
//! # }
//! ```
//!
//! The log costs one lock and one allocation per event, and never grows beyond
//! [`EventLog::CAPACITY`] probes and as many others: the oldest go first, and are counted. Probes
//! are kept apart, so that a flood of them never drives out how the cluster came to be.

mod attachment;
mod kind;
mod log;
mod sink;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

pub use attachment::Attachment;
pub use kind::{How, Kind, Level, Probe, Protocol, Role};
pub use log::{EventLog, ProbeRecord};
pub use sink::{JsonLines, Sink, SinkError, Terminal, VARIABLE};

/// Something that happened, and when and where.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Its place in the log, from 0 without gaps.
    pub number: u64,
    /// The time since the log began, which is when the boot did; never decreases from one event
    /// to the next. Milliseconds when serialised.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// The wall clock's time, comparable with the times of captured packets. Nanoseconds since
    /// 1970 when serialised.
    #[serde(rename = "wall_ns", serialize_with = "nanoseconds")]
    pub wall: SystemTime,
    /// The node or pod, or `fabric`; `None` for what concerns the cluster as a whole.
    pub machine: Option<String>,
    /// What happened. When serialised its fields stand beside these, and `event` is its name.
    #[serde(flatten)]
    pub kind: Kind,
}

/// One line: `+0.041 s k8s-worker-1: agent ready after 12.3 ms, ebpf`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:.3} s ", self.at.as_secs_f64())?;
        match &self.machine {
            Some(machine) => write!(f, "{machine}: {}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

pub(crate) fn milliseconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    // Microseconds are as fine as an event is; more digits would only be noise.
    let microseconds = duration.as_nanos() / 1000;
    #[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
    serializer.serialize_f64(microseconds as f64 / 1000.0)
}

fn nanoseconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default().as_nanos();
    serializer.serialize_u64(u64::try_from(since).unwrap_or(u64::MAX))
}
