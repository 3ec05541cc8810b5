//! Which pair a test failed on, from what the event log tells.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::event::{Event, How, Kind, Protocol};

/// A question to the network that went unanswered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Culprit {
    /// Who asked: a machine's name, or an address where an assertion said so.
    pub(super) from: String,
    /// Who was asked.
    pub(super) to: Target,
    /// How.
    pub(super) how: How,
    /// What came of it.
    pub(super) failure: String,
}

/// Whom somebody asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Address(Ipv4Addr),
    Name(String),
}

/// The pair that a test failed on, whose message is `error`.
///
/// A test may have seen other failures that it expected. So the order is: a pair that an assertion
/// names; a failed probe whose words are in the message; the very last probe, if it failed. A
/// probe that was sent and never heard of again counts as failed: the test hung in it.
pub(super) fn find(events: &[Arc<Event>], error: &str) -> Option<Culprit> {
    let asserted = last_asserted(events);
    let named = || {
        let mut latest_first = events.iter().rev();
        latest_first.find_map(|event| {
            failed_probe(event).filter(|culprit| error.contains(culprit.failure.as_str()))
        })
    };
    asserted.or_else(named).or_else(|| last_probe(events))
}

/// The first pair of the last assertion that failed: one assertion may be about many.
fn last_asserted(events: &[Arc<Event>]) -> Option<Culprit> {
    let what = |event: &Event| match &event.kind {
        Kind::AssertionFailed {
            assertion,
            pair: Some(_),
            ..
        } => Some(assertion.clone()),
        _ => None,
    };
    let last = events.iter().rposition(|event| what(event).is_some())?;
    let assertion = what(&events[last]);
    let before = events[..last].iter().rev();
    let more = before.take_while(|event| what(event) == assertion).count();
    asserted(&events[last - more].kind)
}

fn asserted(kind: &Kind) -> Option<Culprit> {
    let Kind::AssertionFailed {
        found,
        pair: Some((from, to)),
        asked,
        ..
    } = kind
    else {
        return None;
    };
    Some(Culprit {
        from: from.clone(),
        to: match to.parse() {
            Ok(address) => Target::Address(address),
            Err(_) => Target::Name(to.clone()),
        },
        how: asked.unwrap_or_else(|| How::by(Protocol::Icmp)),
        failure: found.clone(),
    })
}

fn failed_probe(event: &Event) -> Option<Culprit> {
    let Kind::ProbeFailed { probe, error, .. } = &event.kind else {
        return None;
    };
    let IpAddr::V4(to) = probe.to else {
        return None;
    };
    Some(Culprit {
        from: event.machine.clone()?,
        to: Target::Address(to),
        how: probe.how,
        failure: error.clone(),
    })
}

fn last_probe(events: &[Arc<Event>]) -> Option<Culprit> {
    let last = events.iter().rev().find(|event| {
        matches!(
            event.kind,
            Kind::ProbeSent { .. } | Kind::ProbeAnswered { .. } | Kind::ProbeFailed { .. }
        )
    })?;
    let Kind::ProbeSent { probe } = &last.kind else {
        return failed_probe(last);
    };
    let IpAddr::V4(to) = probe.to else {
        return None;
    };
    Some(Culprit {
        from: last.machine.clone()?,
        to: Target::Address(to),
        how: probe.how,
        failure: "it was not answered when the test ended".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventLog;

    const B: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 2);
    const C: Ipv4Addr = Ipv4Addr::new(192, 168, 3, 2);

    fn log() -> EventLog {
        let log = EventLog::new();
        let icmp = |to| log.probe("a", to, How::by(Protocol::Icmp));
        icmp(B).failed("no answer from b");
        icmp(C).failed("no answer from c");
        log.probe("a", C, How::by(Protocol::Http).port(80))
            .answered("200");
        log
    }

    fn found(log: &EventLog, error: &str) -> Option<(Target, String)> {
        find(&log.all(), error).map(|culprit| (culprit.to, culprit.failure))
    }

    #[test]
    fn failures_that_the_test_went_on_after_are_not_the_one_it_failed_on() {
        assert_eq!(found(&log(), "assertion failed: 1 == 2"), None);
        let expected = Some((Target::Address(B), "no answer from b".to_owned()));
        assert_eq!(found(&log(), "on a: no answer from b"), expected);
    }

    #[test]
    fn the_last_probe_counts_when_it_failed_or_hung() {
        let log = log();
        let hangs = log.probe("a", B, How::by(Protocol::Icmp).size(1452));
        let (to, failure) = found(&log, "timed out").unwrap();
        assert_eq!(to, Target::Address(B));
        assert!(failure.contains("not answered when the test ended"));
        assert_eq!(find(&log.all(), "timed out").unwrap().how.size, Some(1452));
        hangs.failed("unreachable");
        assert_eq!(found(&log, "boom").unwrap().1, "unreachable");
    }

    #[test]
    fn what_an_assertion_says_counts_most() {
        let log = log();
        let fails = |assertion: &str, to: &str| {
            log.record(Kind::AssertionFailed {
                assertion: assertion.to_owned(),
                found: "lost".into(),
                pair: Some(("a".to_owned(), to.to_owned())),
                asked: Some(How::by(Protocol::Udp).one_of(10)),
            });
        };
        fails("an earlier matrix", "z");
        fails("all reach all", "b");
        fails("all reach all", "c");
        let culprit = found(&log, "on a: no answer from c").unwrap();
        assert_eq!(culprit, (Target::Name("b".into()), "lost".into()));
        let how = find(&log.all(), "anything").unwrap().how;
        assert_eq!(how, How::by(Protocol::Udp).one_of(10));
    }
}
