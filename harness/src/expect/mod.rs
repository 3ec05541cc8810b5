//! Expectations about packets, and what a test reads when they are not met.
//!
//! A pattern says which packets are meant, by outer and inner headers, in the words of whoever
//! reads the test; a chain of clauses says what is expected of a tap. It is judged at one moment,
//! with every packet that passed the tap before it, [`now`](Expectation::now) or as soon as it
//! holds, [`within`](Expectation::within) some time.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! use std::time::Duration;
//! use podlab::expect::{ANYBODY, arp, ip, ipip, tcp};
//!
//! let (n1, n2) = (cluster.node("k8s-worker-1")?, cluster.node("k8s-worker-2")?);
//! let (a, b) = (cluster.pod("test-tools")?, cluster.pod("web")?);
//! let set = cluster.capture().path(&a, &b).start().await?;
//! a.http_get(&b, 8080, "/").await?;
//! set.on(n1.underlay_tap())
//!     .first(arp().request().target(&n2))
//!     .then(ipip(&n1, &n2).ttl(63).around(tcp(&a, (&b, 8080)).syn().mss(1400)))
//!     .then(ipip(&n2, &n1).around(tcp((&b, 8080), &a).syn().ack()))
//!     .none(ip(&a, ANYBODY).or(ip(ANYBODY, &a)))
//!     .within(Duration::from_secs(5))
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What needs every packet
//!
//! `first`, `next`, `finally`, `exactly`, `none` and `nothing_else` could be wrong about packets that were
//! lost or forgotten, so they fail where the tap is not complete. `expect`, `then` and `at_least`
//! are right whenever they have found what they look for.
//!
//! # An expectation that nobody evaluates
//!
//! … is a failure of the test: in a suite ([`podlab::suite!`](crate::suite!)) the test fails with
//! its text, beside whatever else went wrong; elsewhere it panics when it is dropped. One whose
//! `within` is dropped before it has a verdict, as by a timeout around it, is not evaluated either.

mod build;
mod check;
mod clause;
mod pattern;
mod report;
mod source;
mod who;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use thiserror::Error;

pub use build::{
    Arp, HasIp, HasPayload, HasPorts, Icmp, Ip, Ipip, Packets, Tcp, Udp, arp, icmp, ip, ipip, tcp,
    udp,
};
pub use pattern::Pattern;
pub use source::Source;
pub use who::{ANYBODY, Anybody, Who};

use crate::capture::{Capture, CaptureError, CaptureSet, Captured, Recording, Tap};
use crate::event::Kind;
use crate::patience::{PatienceError, scaled};
use crate::suite;
use clause::{Clause, judge};
use report::{Report, statement};

/// What is expected of one tap or of each of several. Built by its methods, evaluated by
/// [`now`](Self::now) or [`within`](Self::within); see [the module](self).
#[must_use = "nothing is expected before `now` or `within`"]
#[derive(Debug)]
pub struct Expectation<'a> {
    source: Source<'a>,
    taps: Vec<Tap>,
    among: Option<Pattern>,
    clauses: Vec<Clause>,
    evaluated: bool,
}

/// Where an expectation is about: one tap, or each of several.
#[derive(Clone, Debug)]
pub struct Taps(Vec<Tap>);

/// What an expectation has found: for each tap the packets of `first`, `expect`, `then`, `next`
/// and `finally`, in the order of the clauses.
#[derive(Clone, Debug)]
pub struct Found {
    taps: Vec<(Tap, Vec<Captured>)>,
}

/// An expectation that was not met, or that could not be judged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExpectError {
    /// The packets are not those that were expected.
    #[error("{report}")]
    NotMet {
        /// What was expected, the packets that came nearest and their fields, for each tap.
        report: String,
    },
    /// An expectation was evaluated that says nothing.
    #[error(
        "nothing is expected on {taps}\n\
         hint: say what, by expect(), none(), exactly() or another clause"
    )]
    Empty {
        /// Where.
        taps: String,
    },
    /// The packets cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The patience factor in the environment is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
}

/// Begins an expectation about every tap of `source`: a running capture or a recording.
pub fn on<'a>(source: impl Into<Source<'a>>) -> Expectation<'a> {
    let source = source.into();
    Expectation::new(source, source.taps())
}

impl CaptureSet {
    /// Begins an expectation about a tap, or about each of several.
    pub fn on(&self, taps: impl Into<Taps>) -> Expectation<'_> {
        Expectation::new(self.into(), taps.into().0)
    }
}

impl Capture {
    /// Begins an expectation about what is captured.
    pub fn on(&self) -> Expectation<'_> {
        on(self)
    }
}

impl Recording {
    /// Begins an expectation about what was captured.
    pub fn on(&self) -> Expectation<'_> {
        on(self)
    }
}

impl<'a> Expectation<'a> {
    fn new(source: Source<'a>, taps: Vec<Tap>) -> Self {
        Self {
            source,
            taps,
            among: None,
            clauses: Vec::new(),
            evaluated: false,
        }
    }

    fn with(mut self, clause: Clause) -> Self {
        self.clauses.push(clause);
        self
    }

    /// Looks at these packets only, as if there were no others.
    pub fn among(mut self, packets: impl Into<Pattern>) -> Self {
        self.among = Some(packets.into());
        self
    }

    /// The very first packet is one of these.
    pub fn first(self, packet: impl Into<Pattern>) -> Self {
        self.with(Clause::First(packet.into()))
    }

    /// There is at least one of these. What follows by [`then`](Self::then) comes after the first
    /// of them.
    pub fn expect(self, packet: impl Into<Pattern>) -> Self {
        self.with(Clause::Some(packet.into()))
    }

    /// After the packet of the clause before there is one of these; others may lie between.
    pub fn then(self, packet: impl Into<Pattern>) -> Self {
        self.with(Clause::Then(packet.into()))
    }

    /// The packet right after that of the clause before is one of these.
    pub fn next(self, packet: impl Into<Pattern>) -> Self {
        self.with(Clause::Next(packet.into()))
    }

    /// The very last packet is one of these, and comes after the one of the clause before.
    pub fn finally(self, packet: impl Into<Pattern>) -> Self {
        self.with(Clause::Finally(packet.into()))
    }

    /// There are so many of these, no more and no fewer.
    pub fn exactly(self, count: usize, packets: impl Into<Pattern>) -> Self {
        self.with(Clause::Exactly(count, packets.into()))
    }

    /// There are so many of these or more.
    pub fn at_least(self, count: usize, packets: impl Into<Pattern>) -> Self {
        self.with(Clause::AtLeast(count, packets.into()))
    }

    /// There is none of these.
    pub fn none(self, packets: impl Into<Pattern>) -> Self {
        self.with(Clause::None(packets.into()))
    }

    /// There is nothing but what the other clauses are about.
    pub fn nothing_else(self) -> Self {
        self.with(Clause::NothingElse(None))
    }

    /// There is nothing but what the other clauses are about, and these.
    pub fn nothing_else_except(self, packets: impl Into<Pattern>) -> Self {
        self.with(Clause::NothingElse(Some(packets.into())))
    }

    /// Evaluates it for every packet that passed the tap before this call.
    ///
    /// # Errors
    /// [`ExpectError::NotMet`] with the nearest packets.
    pub fn now(mut self) -> Result<Found, ExpectError> {
        let judged = self.judge(None);
        self.evaluated = true;
        self.told(judged?.0)
    }

    /// Evaluates it whenever packets come in, until it is met or cannot be any more, and for at
    /// most so long (scaled by the patience factor).
    ///
    /// It ends as soon as all clauses hold: `exactly`, `none`, `finally` and `nothing_else` say
    /// nothing of packets that come later. Where these matter, let the test wait for what ends the
    /// exchange, and evaluate then.
    ///
    /// # Errors
    /// [`ExpectError::NotMet`] with the nearest packets.
    pub async fn within(mut self, time: Duration) -> Result<Found, ExpectError> {
        let verdict = self.settle(time).await;
        // Not before: whoever drops this future on the way has not evaluated it.
        self.evaluated = true;
        self.told(verdict?)
    }

    /// The verdict as soon as it cannot change any more, or the time is up.
    async fn settle(&self, time: Duration) -> Result<Result<Found, String>, ExpectError> {
        let within = scaled(time)?;
        let evaluate = || match self.judge(None) {
            Ok((Err(_), true)) => None,
            Ok((verdict, _)) => Some(Ok(verdict)),
            Err(error) => Some(Err(error)),
        };
        match self.source.wait_until(evaluate, within).await {
            Some(verdict) => verdict,
            None => Ok(self.judge(Some(within))?.0),
        }
    }

    /// What it says now: the packets that were found, or the report; and whether packets that
    /// are still to come may change that.
    fn judge(
        &self,
        within: Option<Duration>,
    ) -> Result<(Result<Found, String>, bool), ExpectError> {
        if self.clauses.is_empty() {
            let taps = self.places();
            return Err(ExpectError::Empty { taps });
        }
        let (mut found, mut reports, mut may_change) = (Vec::new(), Vec::new(), true);
        for tap in &self.taps {
            let (all, losses) = self.source.at(tap)?;
            let count = all.len();
            let mut packets = all;
            if let Some(among) = &self.among {
                packets.retain(|captured| among.matches(captured));
            }
            let verdict = judge(&self.clauses, &packets, losses);
            if !verdict.failures.is_empty() {
                may_change &= verdict.failures.iter().all(|failure| failure.may_change);
                let report = Report {
                    tap,
                    clauses: &self.clauses,
                    failures: &verdict.failures,
                    left_out: count - packets.len(),
                    packets: &packets,
                    losses,
                    within,
                };
                reports.push(report.to_string());
            }
            let seen = verdict.seen.iter().map(|index| packets[*index].clone());
            found.push((tap.clone(), seen.collect()));
        }
        Ok(match reports.is_empty() {
            true => (Ok(Found { taps: found }), false),
            false => (Err(reports.join("\n")), may_change),
        })
    }

    /// Writes the verdict to the event log.
    fn told(&self, verdict: Result<Found, String>) -> Result<Found, ExpectError> {
        let assertion = format!("on {}: {}", self.places(), statement(&self.clauses));
        let pairs = self.clauses.iter().filter_map(Clause::pattern);
        let mut about = pairs.filter_map(|pattern| Some((pattern.pair()?, pattern.how())));
        let (pair, asked) = about.next().unzip();
        if let Some(events) = self.source.events() {
            events.record(match &verdict {
                Ok(_) => Kind::AssertionPassed { assertion },
                Err(report) => Kind::AssertionFailed {
                    assertion,
                    found: report.clone(),
                    pair,
                    asked,
                },
            });
        }
        verdict.map_err(|report| ExpectError::NotMet { report })
    }

    fn places(&self) -> String {
        let names: Vec<&str> = self.taps.iter().map(Tap::as_str).collect();
        names.join(", ")
    }
}

impl Drop for Expectation<'_> {
    fn drop(&mut self) {
        if self.evaluated || self.clauses.is_empty() {
            return;
        }
        let text = format!("an expectation was never evaluated: {self}");
        if let Some(events) = self.source.events() {
            events.record(Kind::AssertionFailed {
                assertion: "an expectation of packets is evaluated".to_owned(),
                found: text.clone(),
                pair: None,
                asked: None,
            });
        }
        // A panic that is under way must stay the one that is reported.
        if !suite::add_failure(&text) && !std::thread::panicking() {
            panic!("{text}\nhint: end it with .now() or .within(time).await");
        }
    }
}

/// `on k8s-worker-1/eth0: none of ip a > anybody`.
impl fmt::Display for Expectation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {}: {}", self.places(), statement(&self.clauses))
    }
}

impl Found {
    /// The packets of all taps, those of the first tap first.
    pub fn packets(&self) -> impl Iterator<Item = &Captured> {
        self.taps.iter().flat_map(|(_, packets)| packets)
    }

    /// The packets of a tap; none of one that the expectation is not about.
    #[must_use]
    pub fn at(&self, tap: &Tap) -> &[Captured] {
        let mut taps = self.taps.iter();
        let found = taps.find(|(own, _)| own == tap);
        found.map_or(&[], |(_, packets)| packets)
    }
}

impl From<Tap> for Taps {
    fn from(tap: Tap) -> Self {
        Self(vec![tap])
    }
}

impl From<&Tap> for Taps {
    fn from(tap: &Tap) -> Self {
        Self(vec![tap.clone()])
    }
}

impl From<Vec<Tap>> for Taps {
    fn from(taps: Vec<Tap>) -> Self {
        Self(taps)
    }
}

impl<const N: usize> From<[Tap; N]> for Taps {
    fn from(taps: [Tap; N]) -> Self {
        Self(taps.into())
    }
}

impl From<&[Tap]> for Taps {
    fn from(taps: &[Tap]) -> Self {
        Self(taps.to_vec())
    }
}
