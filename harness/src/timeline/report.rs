//! What a timeline found.

use std::time::Duration;

use serde::Serialize;

use super::TimelineError;
use crate::error::Error;
use crate::event::{EventLog, How, Kind, Protocol, milliseconds};

/// What was lost between every pair of a timeline, and when. Printed, a strip of time for each.
#[derive(Debug, Clone, Serialize)]
#[must_use = "what a timeline found proves nothing before it is asserted, or somebody looks at it"]
#[non_exhaustive]
pub struct Outages {
    /// By which protocol was probed.
    pub protocol: Protocol,
    /// Bytes of payload of a probe; TCP probes have none.
    pub payload: u32,
    /// The time between two probes of a pair. Milliseconds when serialised, as all durations are.
    #[serde(rename = "interval_ms", serialize_with = "milliseconds")]
    pub interval: Duration,
    /// From the first probe until the timeline was stopped.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// What happened meanwhile, in the order of time.
    pub marks: Vec<Mark>,
    /// Packets that the kernel threw away meanwhile because no processor had time for them, of all
    /// networks of this machine (the second column of `/proc/net/softnet_stat`). Where there are
    /// any, the network need not be to blame for what was lost.
    pub backlog_dropped: u64,
    /// Each pair, in the order in which they were named.
    pub pairs: Vec<PairOutages>,
    #[serde(skip)]
    pub(super) events: EventLog,
}

/// Something that happened while a timeline ran: a [`mark`](super::Timeline::mark) of the test, or
/// an event of the cluster that changes it, such as a fault or the end of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Mark {
    /// When, since the timeline began.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// What.
    pub text: String,
}

/// What was lost between two peers.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PairOutages {
    /// Who probed.
    pub from: String,
    /// Who was probed.
    pub to: String,
    /// Probes that were sent, or that the kernel refused to send for want of a way.
    pub sent: u64,
    /// Those without an answer.
    pub lost: u64,
    /// Answers that came once more.
    pub duplicates: u64,
    /// Answers that came after that to a later probe.
    pub reordered: u64,
    /// Probes that were due and not sent, because the process had no processor time. They are not
    /// lost.
    pub skipped: u64,
    /// Answers that had arrived and were lost in the timeline's own socket; the probes count as
    /// lost though the network is not to blame.
    pub overflowed: u64,
    /// The longest time in which no probe was sent: an outage that is shorter may go unseen.
    #[serde(rename = "longest_gap_ms", serialize_with = "milliseconds")]
    pub longest_gap: Duration,
    /// The longest round trip; for TCP the longest time to connect. Zero when nothing was answered.
    #[serde(rename = "longest_rtt_ms", serialize_with = "milliseconds")]
    pub longest_rtt: Duration,
    /// The runs of lost probes.
    pub outages: Vec<Outage>,
    /// What the sender was told in place of answers, and how often; the most frequent first.
    pub errors: Vec<(String, u64)>,
    /// The timeline in equal parts: of each how many probes were sent and how many were lost.
    pub strip: Vec<(u32, u32)>,
}

/// A time in which nothing was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Outage {
    /// When the first lost probe was sent, since the timeline began.
    #[serde(rename = "start_ms", serialize_with = "milliseconds")]
    pub start: Duration,
    /// From then until the first answer to a later probe came. The network was down for at most this
    /// long and one interval.
    #[serde(rename = "length_ms", serialize_with = "milliseconds")]
    pub length: Duration,
    /// From then until the last lost probe was sent. The network was down for at least this long.
    #[serde(rename = "at_least_ms", serialize_with = "milliseconds")]
    pub at_least: Duration,
    /// How many probes were lost.
    pub lost: u64,
    /// Whether a probe was answered after it; an outage that has not ended lasts until the end of
    /// the timeline.
    pub ended: bool,
    /// The place in [`Outages::marks`] of the last thing that happened before it.
    pub after: Option<usize>,
}

impl Outages {
    /// The probes that were lost, of all pairs together.
    pub fn lost(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.lost).sum()
    }

    /// The probes that were sent, of all pairs together.
    pub fn sent(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.sent).sum()
    }

    /// One pair, by name.
    ///
    /// # Errors
    /// [`TimelineError::NoSuchPair`] with the pairs that there are.
    pub fn pair(&self, from: &str, to: &str) -> Result<&PairOutages, Error> {
        let mut pairs = self.pairs.iter();
        let found = pairs.find(|pair| pair.from == from && pair.to == to);
        found.ok_or_else(|| {
            let known: Vec<String> = self.pairs.iter().map(PairOutages::name).collect();
            let known = known.join(", ");
            let (from, to) = (from.to_owned(), to.to_owned());
            TimelineError::NoSuchPair { from, to, known }.into()
        })
    }

    /// All outages that took longer, with their pairs.
    pub fn outages(&self, longer_than: Duration) -> impl Iterator<Item = (&PairOutages, &Outage)> {
        let all = self
            .pairs
            .iter()
            .flat_map(|pair| pair.outages.iter().map(move |outage| (pair, outage)));
        all.filter(move |(_, outage)| outage.length > longer_than)
    }

    /// Fails when any probe was lost.
    ///
    /// # Errors
    /// [`TimelineError::Lost`]: this, printed.
    pub fn assert_no_loss(&self) -> Result<(), Error> {
        self.assert_lost_at_most(0)
    }

    /// Fails when any pair has lost more than `count` probes, or has sent none.
    ///
    /// # Errors
    /// [`TimelineError::Lost`]: this, printed.
    pub fn assert_lost_at_most(&self, count: u64) -> Result<(), Error> {
        self.assert_each(&format!("no pair loses more than {count} probes"), |pair| {
            pair.lost <= count
        })
    }

    /// Fails when any outage of any pair took longer than `limit`, or a pair has sent nothing.
    ///
    /// # Errors
    /// [`TimelineError::Lost`]: this, printed.
    pub fn assert_no_outage_longer_than(&self, limit: Duration) -> Result<(), Error> {
        self.assert_each(&format!("no outage is longer than {limit:?}"), |pair| {
            pair.outages.iter().all(|outage| outage.length <= limit)
        })
    }

    fn how(&self, pair: &PairOutages) -> How {
        let of = pair.sent.checked_div(pair.lost).unwrap_or(1);
        How::by(self.protocol)
            .size(self.payload)
            .one_of(u32::try_from(of).unwrap_or(u32::MAX))
    }

    fn assert_each(
        &self,
        assertion: &str,
        is_right: impl Fn(&PairOutages) -> bool,
    ) -> Result<(), Error> {
        let wrong = |pair: &&PairOutages| pair.sent == 0 || !is_right(pair);
        let wrong: Vec<&PairOutages> = self.pairs.iter().filter(wrong).collect();
        let Some(first) = wrong.first() else {
            self.events.record(Kind::AssertionPassed {
                assertion: assertion.to_owned(),
            });
            return Ok(());
        };
        self.events.record(Kind::AssertionFailed {
            assertion: assertion.to_owned(),
            found: self.to_string(),
            pair: Some((first.from.clone(), first.to.clone())),
            asked: Some(self.how(first)),
        });
        let names: Vec<String> = wrong.iter().map(|pair| pair.name()).collect();
        Err(TimelineError::Lost {
            what: format!("not so that {assertion}: {}", names.join(", ")),
            outages: Box::new(self.clone()),
        }
        .into())
    }
}

impl PairOutages {
    /// `web → db`
    pub fn name(&self) -> String {
        format!("{} → {}", self.from, self.to)
    }
}
