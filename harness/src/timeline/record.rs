//! What became of the probes of one pair: bookkeeping and the search for outages, without sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::Outage;

/// The probes of one pair, in the order in which they were sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    probes: Vec<Probe>,
    /// One more than the largest number that was answered.
    answered_below: usize,
    duplicates: u64,
    reordered: u64,
    skipped: u64,
    /// What senders were told in place of an answer, and how often.
    errors: BTreeMap<String, u64>,
}

/// One probe that was sent, or was to be and was refused by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    /// When it was sent, since the timeline began.
    pub(super) sent: Duration,
    /// How long its answer took.
    pub(super) answered: Option<Duration>,
}

impl Record {
    /// Notes the next probe, as sent at this time; its number is that of probes before it.
    pub(super) fn sent(&mut self, at: Duration) {
        self.probes.push(Probe {
            sent: at,
            answered: None,
        });
    }

    /// Notes the answer to a probe by its number.
    pub(super) fn answered(&mut self, number: usize, took: Duration) {
        let Some(probe) = self.probes.get_mut(number) else {
            return;
        };
        if probe.answered.is_some() {
            self.duplicates += 1;
            return;
        }
        probe.answered = Some(took);
        if number < self.answered_below {
            self.reordered += 1;
        }
        self.answered_below = self.answered_below.max(number + 1);
    }

    /// Notes what a sender was told in place of an answer.
    pub(super) fn told(&mut self, error: String) {
        *self.errors.entry(error).or_default() += 1;
    }

    /// Notes probes that were due and never sent, for want of processor time.
    pub(super) fn skipped(&mut self, count: u64) {
        self.skipped += count;
    }

    /// Whether every probe that was sent since `since` has its answer.
    pub(super) fn is_complete_since(&self, since: Duration) -> bool {
        let recent = self.probes.iter().rev();
        let mut recent = recent.take_while(|probe| probe.sent >= since);
        recent.all(|probe| probe.answered.is_some())
    }

    /// The runs of lost probes. A run lasts from when the first of it was sent until the first
    /// answer to a later one came; the last run of a timeline may have no such end.
    pub(super) fn outages(&self, end: Duration) -> Vec<Outage> {
        // Of every probe and those after it: when the first answer came. An answer may have waited
        // for longer than one to a later probe.
        let mut first_answers = vec![None; self.probes.len()];
        let mut first: Option<Duration> = None;
        for (probe, slot) in self.probes.iter().zip(&mut first_answers).rev() {
            let came = probe.answered.map(|took| probe.sent + took);
            first = [first, came].into_iter().flatten().min();
            *slot = first;
        }
        let mut outages: Vec<Outage> = Vec::new();
        let mut open = false;
        for (probe, first_answer) in self.probes.iter().zip(first_answers) {
            match (probe.answered, open, outages.last_mut()) {
                (None, true, Some(outage)) => {
                    outage.lost += 1;
                    outage.at_least = probe.sent.saturating_sub(outage.start);
                }
                (None, _, _) => outages.push(Outage {
                    start: probe.sent,
                    length: Duration::ZERO,
                    at_least: Duration::ZERO,
                    lost: 1,
                    ended: false,
                    after: None,
                }),
                (Some(_), true, Some(outage)) => {
                    let end = first_answer.unwrap_or(probe.sent);
                    outage.length = end.saturating_sub(outage.start);
                    outage.ended = true;
                }
                (Some(_), ..) => {}
            }
            open = probe.answered.is_none();
        }
        if let Some(outage) = outages.last_mut().filter(|outage| !outage.ended) {
            outage.length = end.saturating_sub(outage.start);
        }
        outages
    }

    pub(super) fn probes(&self) -> &[Probe] {
        &self.probes
    }

    pub(super) fn lost(&self) -> u64 {
        let lost = self.probes.iter().filter(|probe| probe.answered.is_none());
        lost.count() as u64
    }

    pub(super) fn longest_rtt(&self) -> Option<Duration> {
        self.probes.iter().filter_map(|probe| probe.answered).max()
    }

    /// The longest time in which nothing was sent.
    pub(super) fn longest_gap(&self) -> Duration {
        let gaps = self.probes.windows(2).filter_map(|pair| match pair {
            [one, next] => Some(next.sent.saturating_sub(one.sent)),
            _ => None,
        });
        gaps.max().unwrap_or_default()
    }

    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    pub(super) fn reordered(&self) -> u64 {
        self.reordered
    }

    pub(super) fn probes_skipped(&self) -> u64 {
        self.skipped
    }

    /// What senders were told, the most frequent first.
    pub(super) fn errors(&self) -> Vec<(String, u64)> {
        let mut errors: Vec<_> = self.errors.clone().into_iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        errors
    }
}
