//! What is expected, and whether a list of packets fulfils it: pure functions.

use std::fmt;

use super::pattern::{Pattern, differing};
use crate::capture::{Captured, Losses};

/// One thing that is expected of the packets of a tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    /// The first packet of all.
    First(Pattern),
    /// A packet, the first that matches.
    Some(Pattern),
    /// A packet behind that of the clause before.
    Then(Pattern),
    /// The packet right behind that of the clause before.
    Next(Pattern),
    /// The last packet of all, behind that of the clause before.
    Finally(Pattern),
    Exactly(usize, Pattern),
    AtLeast(usize, Pattern),
    None(Pattern),
    /// No packet that no other clause is about, but for these.
    NothingElse(Option<Pattern>),
}

/// What is wrong, with the numbers of the packets in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No packet matches; behind this packet, if the order is to blame.
    Missing { after: Option<usize> },
    /// Another one is first or last.
    Another { instead: Option<usize> },
    /// As many match.
    Count { matching: Vec<usize> },
    /// These should not be there.
    Unwanted { packets: Vec<usize> },
    /// It cannot be told, because packets are missing.
    Incomplete,
}

/// A clause that is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) clause: usize,
    pub(super) fault: Fault,
    /// Packets that are still to come may change it.
    pub(super) may_change: bool,
}

/// What the clauses say of a list of packets.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) failures: Vec<Failure>,
    /// The packets of first, expect, then, next and finally, in the order of the clauses.
    pub(super) seen: Vec<usize>,
}

impl Clause {
    pub(super) fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::First(pattern)
            | Self::Some(pattern)
            | Self::Then(pattern)
            | Self::Next(pattern)
            | Self::Finally(pattern)
            | Self::Exactly(_, pattern)
            | Self::AtLeast(_, pattern)
            | Self::None(pattern) => Some(pattern),
            Self::NothingElse(pattern) => pattern.as_ref(),
        }
    }

    /// It says that its packets are there.
    fn wants(&self) -> Option<&Pattern> {
        match self {
            Self::None(_) | Self::NothingElse(_) => None,
            _ => self.pattern(),
        }
    }

    /// A packet that was lost could make it false.
    fn needs_every_packet(&self) -> bool {
        !matches!(self, Self::Some(_) | Self::Then(_) | Self::AtLeast(..))
    }
}

/// What is wrong with a packet as one of those that are wanted: by how many fields.
pub(super) fn distance(pattern: &Pattern, captured: &Captured) -> usize {
    differing(&pattern.compare(captured))
}

/// Whether `packet` may be there though nobody asked for it.
pub(super) fn is_allowed(clauses: &[Clause], except: Option<&Pattern>, packet: &Captured) -> bool {
    let wanted = clauses.iter().filter_map(Clause::wants);
    wanted.chain(except).any(|pattern| pattern.matches(packet))
}

/// Judges all packets that a tap has seen.
pub(super) fn judge(clauses: &[Clause], packets: &[Captured], losses: Losses) -> Verdict {
    let mut verdict = Verdict::default();
    // Where the next of a sequence may be, while the sequence holds.
    let mut from = Some(0);
    for (number, clause) in clauses.iter().enumerate() {
        let mut fail = |fault, may_change| {
            verdict.failures.push(Failure {
                clause: number,
                fault,
                may_change,
            });
        };
        if clause.needs_every_packet() && !losses.is_none() {
            fail(Fault::Incomplete, false);
            continue;
        }
        let find = |pattern: &Pattern, from: usize| {
            let mut later = packets.iter().enumerate().skip(from);
            later.find(|(_, packet)| pattern.matches(packet))
        };
        let all = |pattern: &Pattern| {
            let matching = packets.iter().enumerate();
            let matching = matching.filter(|(_, packet)| pattern.matches(packet));
            matching.map(|(index, _)| index).collect::<Vec<_>>()
        };
        match clause {
            Clause::First(pattern) => match packets.first() {
                Some(first) if pattern.matches(first) => {
                    verdict.seen.push(0);
                    from = Some(1);
                }
                first => {
                    let instead = first.map(|_| 0);
                    fail(Fault::Another { instead }, first.is_none());
                    from = None;
                }
            },
            Clause::Some(pattern) | Clause::Then(pattern) => {
                let is_then = matches!(clause, Clause::Then(_));
                let Some(start) = (if is_then { from } else { Some(0) }) else {
                    continue;
                };
                match find(pattern, start) {
                    Some((index, _)) => {
                        verdict.seen.push(index);
                        from = Some(index + 1);
                    }
                    None => {
                        let after = start.checked_sub(1);
                        fail(Fault::Missing { after }, true);
                        from = None;
                    }
                }
            }
            Clause::Next(pattern) => {
                let Some(start) = from else { continue };
                match packets.get(start) {
                    Some(next) if pattern.matches(next) => {
                        verdict.seen.push(start);
                        from = Some(start + 1);
                    }
                    next => {
                        let instead = next.map(|_| start);
                        fail(Fault::Another { instead }, next.is_none());
                        from = None;
                    }
                }
            }
            Clause::Finally(pattern) => {
                let Some(start) = from else { continue };
                let last = packets.len().checked_sub(1).filter(|last| *last >= start);
                match last {
                    Some(last) if pattern.matches(&packets[last]) => {
                        verdict.seen.push(last);
                        from = Some(last + 1);
                    }
                    instead => {
                        fail(Fault::Another { instead }, true);
                        from = None;
                    }
                }
            }
            Clause::Exactly(count, pattern) => {
                let matching = all(pattern);
                if matching.len() != *count {
                    let may_change = matching.len() < *count;
                    fail(Fault::Count { matching }, may_change);
                }
            }
            Clause::AtLeast(count, pattern) => {
                let matching = all(pattern);
                if matching.len() < *count {
                    fail(Fault::Count { matching }, true);
                }
            }
            Clause::None(pattern) => {
                let packets = all(pattern);
                if !packets.is_empty() {
                    fail(Fault::Unwanted { packets }, false);
                }
            }
            Clause::NothingElse(except) => {
                let unwanted = packets.iter().enumerate();
                let unwanted = unwanted
                    .filter(|(_, packet)| !is_allowed(clauses, except.as_ref(), packet))
                    .map(|(index, _)| index);
                let packets: Vec<usize> = unwanted.collect();
                if !packets.is_empty() {
                    fail(Fault::Unwanted { packets }, false);
                }
            }
        }
    }
    verdict
}

/// As a statement: `then tcp a > b, flags [S]`.
impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(pattern) => write!(f, "first {pattern}"),
            Self::Some(pattern) => write!(f, "{pattern}"),
            Self::Then(pattern) => write!(f, "then {pattern}"),
            Self::Next(pattern) => write!(f, "next {pattern}"),
            Self::Finally(pattern) => write!(f, "finally {pattern}"),
            Self::Exactly(count, pattern) => write!(f, "exactly {count} of {pattern}"),
            Self::AtLeast(count, pattern) => write!(f, "at least {count} of {pattern}"),
            Self::None(pattern) => write!(f, "none of {pattern}"),
            Self::NothingElse(None) => f.write_str("nothing else"),
            Self::NothingElse(Some(pattern)) => write!(f, "nothing else except {pattern}"),
        }
    }
}
