//! What a failed expectation says: what was expected, the packets that come nearest with the
//! fields that differ, and how many others there were.

use std::fmt::{self, Write};
use std::time::Duration;

use super::clause::{Clause, Failure, Fault, distance};
use super::pattern::{Pattern, Row, differing};
use crate::capture::{Captured, Losses, Tap};

/// Nearest packets that are shown, and unwanted ones.
const SHOWN: usize = 3;

/// Marks a line of a field that differs.
const MARK: &str = "✗";

/// Everything that a report about one tap is made of.
pub(super) struct Report<'a> {
    pub(super) tap: &'a Tap,
    pub(super) clauses: &'a [Clause],
    pub(super) failures: &'a [Failure],
    pub(super) packets: &'a [Captured],
    /// Packets of the tap that the expectation is not about.
    pub(super) left_out: usize,
    pub(super) losses: Losses,
    /// How long the wait was, if there was one.
    pub(super) within: Option<Duration>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statement = statement(self.clauses);
        write!(f, "on {}: expected {statement}", self.tap)?;
        if let Some(within) = self.within {
            write!(f, ", within {within:?}")?;
        }
        for failure in self.failures {
            self.failure(f, failure)?;
        }
        if !self.losses.is_none() {
            write!(f, "\n  this capture is not complete: {}", self.losses)?;
        }
        if self.left_out > 0 {
            let packets = packets(self.left_out);
            write!(f, "\n  left out beforehand: {packets} of other kinds")?;
        }
        Ok(())
    }
}

/// All clauses in one sentence.
pub(super) fn statement(clauses: &[Clause]) -> String {
    let each: Vec<String> = clauses.iter().map(ToString::to_string).collect();
    each.join("; ")
}

fn packets(count: usize) -> String {
    match count {
        0 => "no packet".to_owned(),
        1 => "1 packet".to_owned(),
        count => format!("{count} packets"),
    }
}

impl Report<'_> {
    fn failure(&self, f: &mut fmt::Formatter<'_>, failure: &Failure) -> fmt::Result {
        let clause = &self.clauses[failure.clause];
        // Of a single one the first line has told.
        match self.clauses.len() {
            1 => f.write_str(":")?,
            _ => write!(f, "\n  {clause}:")?,
        }
        match (&failure.fault, clause.pattern()) {
            (Fault::Incomplete, _) => write!(
                f,
                " cannot be told, packets are missing ({})\n  \
                 hint: tap fewer devices, use a filter, or allow the capture more memory",
                self.losses
            ),
            (Fault::Missing { after }, Some(pattern)) => self.missing(f, pattern, *after),
            (Fault::Another { instead: None }, _) => match self.packets.len() {
                0 => f.write_str(" there is no packet"),
                last => {
                    write!(
                        f,
                        " there is none after the last one, which another clause is about"
                    )?;
                    self.line(f, last - 1)
                }
            },
            (
                Fault::Another {
                    instead: Some(index),
                },
                Some(pattern),
            ) => {
                f.write_str(" it is another one")?;
                self.compared(f, pattern, *index, true)?;
                let matching = self.matching(pattern);
                match matching.first() {
                    Some(other) => {
                        write!(
                            f,
                            "\n  {} of {} match, the first of them:",
                            matching.len(),
                            self.packets.len()
                        )?;
                        self.line(f, *other)
                    }
                    None => write!(f, "\n  none of {} matches", packets(self.packets.len())),
                }
            }
            (Fault::Count { matching }, Some(pattern)) => {
                write!(f, " {} matched", packets(matching.len()))?;
                matching
                    .iter()
                    .take(SHOWN)
                    .try_for_each(|index| self.line(f, *index))?;
                if matching.len() > SHOWN {
                    return write!(f, "\n    and {} more", matching.len() - SHOWN);
                }
                self.nearest(f, pattern, matching, None)
            }
            (Fault::Unwanted { packets: unwanted }, pattern) => {
                write!(f, " {} should not be there", packets(unwanted.len()))?;
                for index in unwanted.iter().take(SHOWN) {
                    match (pattern, clause) {
                        // How it differs from what is allowed.
                        (Some(pattern), Clause::NothingElse(_)) => {
                            self.compared(f, pattern, *index, false)?;
                        }
                        _ => self.line(f, *index)?,
                    }
                }
                match unwanted.len().saturating_sub(SHOWN) {
                    0 => Ok(()),
                    more => write!(f, "\n    and {more} more"),
                }
            }
            _ => Ok(()),
        }
    }

    fn missing(
        &self,
        f: &mut fmt::Formatter<'_>,
        pattern: &Pattern,
        after: Option<usize>,
    ) -> fmt::Result {
        f.write_str(" not seen")?;
        if let Some(after) = after {
            write!(f, " after #{}", after + 1)?;
            self.line(f, after)?;
            let earlier = self.matching(pattern);
            if let Some(earlier) = earlier.first() {
                f.write_str("\n  one that matches came earlier:")?;
                self.line(f, *earlier)?;
            }
        }
        self.nearest(f, pattern, &[], after)
    }

    fn matching(&self, pattern: &Pattern) -> Vec<usize> {
        let indices = 0..self.packets.len();
        indices
            .filter(|index| pattern.matches(&self.packets[*index]))
            .collect()
    }

    /// The packets that come nearest, but for those in `known` and before `after`.
    fn nearest(
        &self,
        f: &mut fmt::Formatter<'_>,
        pattern: &Pattern,
        known: &[usize],
        after: Option<usize>,
    ) -> fmt::Result {
        let first = after.map_or(0, |after| after + 1);
        let others = (first..self.packets.len()).filter(|index| !known.contains(index));
        let mut others: Vec<usize> = others.collect();
        if others.is_empty() {
            let of_all = self.packets.len();
            let later = if after.is_some() { "later " } else { "other " };
            return match of_all {
                0 => f.write_str("\n  there is no packet at all"),
                _ => write!(f, "\n  there is no {later}packet ({of_all} in all)"),
            };
        }
        others.sort_by_key(|index| distance(pattern, &self.packets[*index]));
        f.write_str("\n  nearest:")?;
        for (rank, index) in others.iter().take(SHOWN).enumerate() {
            self.compared(f, pattern, *index, rank == 0)?;
        }
        match others.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {} that differ more", packets(more)),
        }
    }

    /// A packet and its fields beside those that were expected: `all` of them, or those that
    /// differ.
    fn compared(
        &self,
        f: &mut fmt::Formatter<'_>,
        pattern: &Pattern,
        index: usize,
        all: bool,
    ) -> fmt::Result {
        self.line(f, index)?;
        let rows = pattern.compare(&self.packets[index]);
        let count = differing(&rows);
        write!(f, "\n      {count} of {} fields differ", rows.len())?;
        let shown: Vec<&Row> = rows.iter().filter(|row| all || !row.holds).collect();
        let width = |of: fn(&Row) -> &str, title: &str| {
            let widths = shown.iter().map(|row| of(row).chars().count());
            widths.max().unwrap_or(0).max(title.len())
        };
        let fields = width(|row| &row.field, "field");
        let expected = width(|row| &row.expected, "expected");
        let title = format!("{:fields$}  {:expected$}  actual", "field", "expected");
        write!(f, "\n        {title}")?;
        for row in shown {
            let mark = if row.holds { " " } else { MARK };
            let actual = row.actual.as_deref().unwrap_or("(it has none)");
            let Row {
                field,
                expected: wanted,
                ..
            } = row;
            write!(
                f,
                "\n      {mark} {field:fields$}  {wanted:expected$}  {actual}"
            )?;
        }
        Ok(())
    }

    /// A packet in one line: its number, the time since the first one, its way and tcpdump's text.
    fn line(&self, f: &mut fmt::Formatter<'_>, index: usize) -> fmt::Result {
        let captured = &self.packets[index];
        let start = self.packets.first().map_or(captured.time, |p| p.time);
        let since = captured.time.duration_since(start).unwrap_or_default();
        let mut text = String::new();
        write!(text, "{}", captured.packet)?;
        write!(
            f,
            "\n    #{} +{:.6} s {}: {text}",
            index + 1,
            since.as_secs_f64(),
            captured.direction
        )
    }
}
