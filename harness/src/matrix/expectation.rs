//! What is expected of a probe, and what it showed: values, and the comparison.

use std::fmt::{self, Display};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;

use super::Probe;
use crate::event::{Protocol, milliseconds};
use crate::probe::Failure;

/// What is expected of the probes of one [`Question`](super::Question).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expectation {
    reach: Reach,
    source: Option<Ipv4Addr>,
    ttl: Option<u8>,
    ttl_back: Option<u8>,
    #[serde(rename = "within_ms", serialize_with = "maybe_milliseconds")]
    within: Option<Duration>,
    /// How many probes a round has.
    probes: u32,
    /// How many of them are lost: at least, at most.
    lost: (u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reach {
    Reachable,
    Unreachable(Option<Failure>),
}

impl Expectation {
    /// An answer comes back.
    pub fn reachable() -> Self {
        Self {
            reach: Reach::Reachable,
            source: None,
            ttl: None,
            ttl_back: None,
            within: None,
            probes: 1,
            lost: (0, 0),
        }
    }

    /// No answer comes back, in several rounds, while the target answers itself.
    pub fn unreachable() -> Self {
        Self {
            reach: Reach::Unreachable(None),
            ..Self::reachable()
        }
    }

    /// No answer comes back, and the sender is told so in this way.
    pub fn failing(how: Failure) -> Self {
        Self {
            reach: Reach::Unreachable(Some(how)),
            ..Self::reachable()
        }
    }

    /// The server sees the probe come from this address.
    #[must_use]
    pub fn source(mut self, source: impl Into<Ipv4Addr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The probe has this TTL when it arrives at the server: 64 less one per router. For TCP and
    /// HTTP it is that of the SYN.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The answer has this TTL when it comes back. For ICMP only.
    #[must_use]
    pub fn ttl_back(mut self, ttl: u8) -> Self {
        self.ttl_back = Some(ttl);
        self
    }

    /// The answer takes no longer: the round trip of ICMP and UDP, the time to connect of TCP, the
    /// time to the last byte of HTTP. It is a limit on the network and not stretched by the
    /// patience factor.
    #[must_use]
    pub fn within(mut self, latency: Duration) -> Self {
        self.within = Some(latency);
        self
    }

    /// Of `probes` probes in a row so many are lost: `lost(0..=2, 20)` allows two of twenty,
    /// `lost(2..=2, 20)` demands them.
    #[must_use]
    pub fn lost(mut self, lost: RangeInclusive<u32>, probes: u32) -> Self {
        self.lost = lost.into_inner();
        self.probes = probes;
        self
    }

    /// Whether an answer is expected.
    pub fn is_reachable(&self) -> bool {
        self.reach == Reach::Reachable
    }

    pub(super) fn probes(&self) -> u32 {
        self.probes
    }

    /// Why it can never be judged, if so.
    pub(super) fn fault(&self, probe: Probe) -> Option<String> {
        let Self { probes, lost, .. } = self;
        let (least, most) = *lost;
        if *probes == 0 {
            return Some("it asks for 0 probes".to_owned());
        }
        if least > most || most >= *probes {
            return Some(format!(
                "{least} to {most} of {probes} probes cannot be lost and it be reachable"
            ));
        }
        if self.ttl_back.is_some() && probe.protocol != Protocol::Icmp {
            return Some("the answer's ttl is known for icmp only".to_owned());
        }
        let ttl = self.ttl.or(self.ttl_back);
        let travelled = self.source.is_some() || ttl.is_some() || self.within.is_some();
        if !self.is_reachable() && (travelled || most > 0) {
            return Some("what is unreachable has no source, ttl, latency or loss".to_owned());
        }
        None
    }

    /// Everything in which `actual` differs from this.
    pub(super) fn judge(&self, actual: &Actual) -> Vec<Difference> {
        match self.reach {
            Reach::Unreachable(how) => judge_unreachable(how, actual),
            Reach::Reachable => self.judge_reachable(actual),
        }
    }

    fn judge_reachable(&self, actual: &Actual) -> Vec<Difference> {
        let lost = actual.sent.saturating_sub(actual.answered);
        let (least, most) = self.lost;
        let mut differences = Vec::new();
        if !(least..=most).contains(&lost) {
            differences.push(Difference::Lost);
        }
        if actual.doubled > 0 {
            differences.push(Difference::Doubled);
        }
        // What nobody answered has nothing else to compare.
        if actual.answered == 0 {
            return differences;
        }
        if self.source.is_some_and(|source| actual.sources != [source]) {
            differences.push(Difference::Source);
        }
        if self.ttl.is_some_and(|ttl| actual.ttls != [ttl]) {
            differences.push(Difference::Ttl);
        }
        if self.ttl_back.is_some_and(|ttl| actual.ttls_back != [ttl]) {
            differences.push(Difference::TtlBack);
        }
        if self
            .within
            .is_some_and(|limit| actual.latency.is_none_or(|took| took > limit))
        {
            differences.push(Difference::Latency);
        }
        differences
    }
}

fn judge_unreachable(how: Option<Failure>, actual: &Actual) -> Vec<Difference> {
    if actual.answered > 0 {
        return vec![Difference::Answered];
    }
    if actual.control.is_some() {
        return vec![Difference::Unproven];
    }
    let otherwise = |how| actual.failures.iter().any(|failed| failed.how != how);
    match how {
        Some(how) if otherwise(how) => vec![Difference::How],
        _ => Vec::new(),
    }
}

/// `reachable, source 192.168.1.12, ttl 62`
impl Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reach {
            Reach::Reachable => write!(f, "reachable")?,
            Reach::Unreachable(None) => write!(f, "unreachable")?,
            Reach::Unreachable(Some(how)) => write!(f, "unreachable: {how}")?,
        }
        let Self { probes, lost, .. } = self;
        match *lost {
            (0, 0) if *probes == 1 => {}
            (least, most) if least == most => write!(f, ", {least} of {probes} lost")?,
            (least, most) => write!(f, ", {least} to {most} of {probes} lost")?,
        }
        if let Some(source) = self.source {
            write!(f, ", source {source}")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, ", ttl {ttl}")?;
        }
        if let Some(ttl) = self.ttl_back {
            write!(f, ", ttl {ttl} back")?;
        }
        match self.within {
            Some(limit) => write!(f, ", within {limit:?}"),
            None => Ok(()),
        }
    }
}

/// What the probes of one question showed in one round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Actual {
    /// Probes that were made.
    pub sent: u32,
    /// Probes that were answered.
    pub answered: u32,
    /// The different source addresses that the server saw; most often one.
    pub sources: Vec<Ipv4Addr>,
    /// The different TTLs that probes had on arrival; most often one.
    pub ttls: Vec<u8>,
    /// The different TTLs that answers had when they came back. Known for ICMP only.
    pub ttls_back: Vec<u8>,
    /// The longest time that an answer took.
    #[serde(rename = "latency_ms", serialize_with = "maybe_milliseconds")]
    pub latency: Option<Duration>,
    /// The different ways in which probes failed.
    pub failures: Vec<Failed>,
    /// Probes without an answer that had arrived at the target all the same: it is the way back
    /// that is broken. Known for ICMP only.
    pub arrived: u32,
    /// Probes that arrived more than once, which is never right. Known for ICMP only.
    pub doubled: u32,
    /// Why the target's server did not answer the target itself, if that was asked and it did not.
    pub control: Option<String>,
}

/// How a probe failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Failed {
    /// In one word.
    pub how: Failure,
    /// In the words of the probe's own error.
    pub error: String,
}

impl Actual {
    /// Adds what one probe showed.
    pub(super) fn add(&mut self, shown: Result<Shown, Failed>) {
        self.sent += 1;
        match shown {
            Ok(shown) => {
                self.answered += 1;
                push_new(&mut self.sources, shown.source);
                push_new(&mut self.ttls, shown.ttl);
                push_new(&mut self.ttls_back, shown.ttl_back);
                self.latency = self.latency.max(Some(shown.latency));
            }
            Err(failed) => push_new(&mut self.failures, Some(failed)),
        }
    }
}

/// What one probe that was answered showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) source: Option<Ipv4Addr>,
    pub(super) ttl: Option<u8>,
    pub(super) ttl_back: Option<u8>,
    pub(super) latency: Duration,
}

fn push_new<T: PartialEq>(known: &mut Vec<T>, new: Option<T>) {
    known.extend(new.filter(|new| !known.contains(new)));
}

/// One line; the errors without their hints.
impl Display for Actual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.answered, self.sent) {
            (1, 1) => write!(f, "reachable")?,
            (0, 1) => write!(f, "no answer")?,
            (answered, sent) => write!(f, "{answered} of {sent} answered")?,
        }
        if self.answered > 0 {
            write!(f, ", source {}", List(&self.sources))?;
            write!(f, ", ttl {}", List(&self.ttls))?;
        }
        if !self.ttls_back.is_empty() {
            write!(f, ", ttl {} back", List(&self.ttls_back))?;
        }
        if self.doubled > 0 {
            write!(f, ", {} arrived more than once", self.doubled)?;
        }
        if let Some(latency) = self.latency {
            write!(f, ", {:.3} ms", latency.as_secs_f64() * 1e3)?;
        }
        for (index, failed) in self.failures.iter().enumerate() {
            let before = if index == 0 { ":" } else { ";" };
            let error = failed.error.lines().next().unwrap_or_default();
            write!(f, "{before} {} ({error})", failed.how)?;
        }
        match (self.arrived, self.sent) {
            (0, _) => {}
            (1, 1) => write!(f, ", but it had arrived: the way back is broken")?,
            (arrived, _) => write!(f, ", but {arrived} had arrived: the way back is broken")?,
        }
        match &self.control {
            Some(error) => {
                let error = error.lines().next().unwrap_or_default();
                write!(f, "; the target does not even answer itself: {error}")
            }
            None => Ok(()),
        }
    }
}

/// Values side by side, or that there are none.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { " and " };
            write!(f, "{between}{value}")?;
        }
        match self.0 {
            [] => write!(f, "unknown"),
            _ => Ok(()),
        }
    }
}

/// In what an [`Actual`] differs from its [`Expectation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Difference {
    /// Another number of probes was lost.
    Lost,
    /// It was answered though it should be unreachable.
    Answered,
    /// It failed in another way than it should.
    How,
    /// The server saw another source address, or several, or it is unknown.
    Source,
    /// The probe had another TTL on arrival, or several, or it is unknown.
    Ttl,
    /// The answer had another TTL when it came back.
    TtlBack,
    /// A probe arrived more than once.
    Doubled,
    /// The answer took too long.
    Latency,
    /// No answer came, but that proves nothing: the target does not answer itself either.
    Unproven,
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Answered => "answered",
            Self::How => "how it failed",
            Self::Source => "source",
            Self::Ttl => "ttl",
            Self::TtlBack => "ttl of the answer",
            Self::Doubled => "arrived twice",
            Self::Latency => "latency",
            Self::Unproven => "unproven",
        })
    }
}

fn maybe_milliseconds<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => milliseconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}
