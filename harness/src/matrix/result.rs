//! What a matrix found.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::Serialize;

use super::{Actual, Difference, Expectation, MatrixError, Probe};
use crate::error::Error;
use crate::event::{Attachment, EventLog, How, Kind, milliseconds};

/// Wrong pairs that are told one by one; beyond, their number says more.
pub(super) const TOLD: usize = 20;

/// What was found by asking: printed, a grid, and below it everything that is wrong.
///
/// What it says is to be looked at: nobody may take a question for a proof. This compiles, as
/// [`prove`](super::MatrixBuilder::prove) asserts it,
/// ```no_run
/// #![deny(unused_must_use)]
/// # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
/// cluster.matrix().all_pods().prove().await?;
/// cluster.matrix().all_pods().run().await?.assert()?;
/// # Ok(())
/// # }
/// ```
/// and this does not:
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
/// cluster.matrix().all_pods().run().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use = "what a matrix found proves nothing before it is asserted, or somebody looks at it"]
#[non_exhaustive]
pub struct Matrix {
    /// The names of the rows.
    pub from: Vec<String>,
    /// The names of the columns.
    pub to: Vec<String>,
    /// Every question, by row, column and probe.
    pub checks: Vec<Check>,
    /// How many rounds were made.
    pub rounds: u32,
    /// Whether as many rounds in a row as wanted were right.
    pub stable: bool,
    /// How long all rounds took.
    #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
    pub elapsed: Duration,
    #[serde(skip)]
    pub(super) events: EventLog,
}

/// A [`Matrix`] of which all is as expected.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Proof(pub(super) Matrix);

impl Deref for Proof {
    type Target = Matrix;

    fn deref(&self) -> &Matrix {
        &self.0
    }
}

/// As the matrix is printed.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One question, what was expected of it, and what came.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Who asked.
    pub from: String,
    /// Who was asked.
    pub to: String,
    /// How.
    pub probe: Probe,
    /// What was expected.
    pub expected: Expectation,
    /// What came in the last round; in a matrix that is right now and was not long enough, what
    /// came when it was last wrong.
    pub actual: Actual,
    /// In what the two differ.
    pub wrong: Vec<Difference>,
    /// In how many rounds they differed.
    pub wrong_rounds: u32,
}

impl Check {
    /// Whether it is as expected.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// How it was asked, for whoever asks it again. The ports of the matrix's servers are not told:
    /// these are gone.
    fn how(&self) -> How {
        let Actual { sent, answered, .. } = self.actual;
        let of = sent.checked_div(sent.saturating_sub(answered));
        How::by(self.probe.protocol)
            .size(self.probe.size)
            .dont_fragment(self.probe.dont_fragment)
            .one_of(of.unwrap_or(1))
    }
}

impl Matrix {
    /// Whether all of it is as expected, for as many rounds in a row as wanted.
    pub fn is_right(&self) -> bool {
        self.stable
    }

    /// The questions whose answers are not as expected.
    pub fn wrong(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.is_right())
    }

    /// The pairs of which some answer is not as expected, by row and column.
    pub fn wrong_pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<_> = self
            .wrong()
            .map(|check| (&*check.from, &*check.to))
            .collect();
        pairs.dedup();
        pairs
    }

    /// The questions of one pair.
    pub fn between(&self, from: &str, to: &str) -> impl Iterator<Item = &Check> {
        let pair = move |check: &&Check| check.from == from && check.to == to;
        self.checks.iter().filter(pair)
    }

    /// Fails when anything is not as expected, and tells the cluster's event log either way.
    ///
    /// # Errors
    /// [`MatrixError::Wrong`]: this matrix, printed.
    pub fn assert(&self) -> Result<(), Error> {
        let assertion = || self.title();
        if self.is_right() {
            self.events.record(Kind::AssertionPassed {
                assertion: assertion(),
            });
            return Ok(());
        }
        for (from, to) in self.wrong_pairs().into_iter().take(TOLD) {
            let wrong = self.between(from, to).filter(|check| !check.is_right());
            let wrong: Vec<&Check> = wrong.collect();
            let found: Vec<_> = wrong
                .iter()
                .map(|check| format!("{from} → {to} {}: {}", check.probe, check.actual))
                .collect();
            self.events.record(Kind::AssertionFailed {
                assertion: assertion(),
                found: found.join("\n"),
                pair: Some((from.to_owned(), to.to_owned())),
                asked: wrong.first().map(|check| check.how()),
            });
        }
        Err(MatrixError::Wrong(Box::new(self.clone())).into())
    }

    /// For the report of a test that fails. A large one that is right costs more than it tells.
    pub(super) fn keep(&self) {
        const LARGE: usize = 2000;
        if !self.is_right() || self.checks.len() <= LARGE {
            self.events.attach(Attachment::new("matrix", self));
        }
    }

    /// What was asked, in a few words.
    pub(super) fn title(&self) -> String {
        let mut pairs: Vec<_> = self.checks.iter().map(|c| (&c.from, &c.to)).collect();
        pairs.dedup();
        let mut probes: Vec<String> = Vec::new();
        for check in &self.checks {
            let probe = check.probe.to_string();
            if !probes.contains(&probe) {
                probes.push(probe);
            }
        }
        let probes = match &*probes {
            [] => "nothing".to_owned(),
            few @ ([_] | [_, _] | [_, _, _] | [_, _, _, _]) => few.join(", "),
            [first, .., last] => format!("{first} … {last} ({} probes)", probes.len()),
        };
        format!("matrix of {} pairs by {probes}", pairs.len())
    }
}
