use std::time::Duration;

use proptest::prelude::*;

use super::line::unwrapped;
use super::record::Record;
use super::show::{STRIP, place};
use super::*;
use crate::event::{EventLog, Protocol};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How long every answer takes.
const TOOK: Duration = Duration::from_micros(300);

/// A record with a probe every millisecond, of which some are answered.
fn record(answered: &[bool]) -> Record {
    let mut record = Record::default();
    for (number, answered) in answered.iter().enumerate() {
        record.sent(ms(number as u64));
        if *answered {
            record.answered(number, TOOK);
        }
    }
    record
}

#[test]
fn an_outage_lasts_until_the_next_probe_that_is_answered() {
    let outages = record(&[true, false, false, true, false, true]).outages(ms(6));
    let told: Vec<_> = outages
        .iter()
        .map(|o| (o.start, o.length, o.at_least, o.lost, o.ended))
        .collect();
    let expected = [
        (ms(1), ms(2) + TOOK, ms(1), 2, true),
        (ms(4), ms(1) + TOOK, ms(0), 1, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_answer_that_was_held_up_does_not_end_an_outage_before_it_comes() {
    let mut record = record(&[true, false]);
    // Both waited for the same thing; the later one for a shorter time.
    for (number, took) in [(2, ms(500)), (3, ms(499)), (4, ms(497))] {
        record.sent(ms(number as u64));
        record.answered(number, took);
    }
    assert_eq!(record.outages(ms(600))[0].length, ms(500));
}

#[test]
fn an_outage_that_does_not_end_lasts_until_the_end() {
    let outages = record(&[true, false]).outages(ms(10));
    assert_eq!((outages[0].length, outages[0].ended), (ms(9), false));
}

proptest! {
    #[test]
    fn outages_and_answers_share_the_probes_between_them(answered: Vec<bool>) {
        let record = record(&answered);
        let outages = record.outages(ms(answered.len() as u64));
        let lost = answered.iter().filter(|answered| !**answered).count() as u64;
        prop_assert_eq!(record.lost(), lost);
        prop_assert_eq!(outages.iter().map(|outage| outage.lost).sum::<u64>(), lost);
        // With one probe each millisecond the length is the number of those that were lost.
        for outage in &outages {
            let answer = if outage.ended { TOOK } else { Duration::ZERO };
            prop_assert_eq!(outage.length, ms(outage.lost) + answer);
            prop_assert!(outage.at_least < outage.length);
        }
        // In order, and apart from each other by at least one that was answered.
        for pair in outages.windows(2) {
            prop_assert!(pair[0].ended);
            prop_assert!(pair[0].start + pair[0].length < pair[1].start);
        }
    }

    #[test]
    fn answers_in_any_order_and_number_are_counted_right(
        order in Just((0..50_usize).collect::<Vec<_>>()).prop_shuffle(),
        again in proptest::collection::vec(0..50_usize, 0..20),
    ) {
        let mut record = record(&[false; 50]);
        let (mut below, mut late) = (0, 0);
        for number in &order {
            record.answered(*number, Duration::ZERO);
            late += u64::from(*number < below);
            below = below.max(*number + 1);
        }
        for number in &again {
            record.answered(*number, Duration::ZERO);
        }
        // Of a probe that was never sent.
        record.answered(50, Duration::ZERO);
        prop_assert_eq!(record.lost(), 0);
        prop_assert_eq!(record.reordered(), late);
        prop_assert_eq!(record.duplicates(), again.len() as u64);
    }

    #[test]
    fn a_number_is_found_again_by_its_low_half(next in 1_u64..1 << 40, back in 1_u64..65_537) {
        prop_assume!(back <= next);
        prop_assert_eq!(unwrapped((next - back) as u16, next), Some(next - back));
    }

    #[test]
    fn every_time_has_a_place_in_the_strip(at in 0_u64..10_000, duration in 0_u64..10_000) {
        prop_assert!(place(ms(at), ms(duration)) < STRIP);
    }
}

#[test]
fn only_recent_probes_are_waited_for() {
    let record = record(&[false, true, true]);
    assert!(record.is_complete_since(ms(1)));
    assert!(!record.is_complete_since(ms(0)));
    assert!(Record::default().is_complete_since(ms(0)));
}

fn outages(answered: &[bool]) -> Outages {
    let record = record(answered);
    let end = ms(answered.len() as u64);
    let mut found = record.outages(end);
    for outage in &mut found {
        outage.after = (outage.start >= ms(100)).then_some(0);
    }
    let mut strip = vec![(0, 0); STRIP];
    for probe in record.probes() {
        let (sent, lost) = &mut strip[place(probe.sent, end)];
        *sent += 1;
        *lost += u32::from(probe.answered.is_none());
    }
    Outages {
        payload: 56,
        protocol: Protocol::Icmp,
        interval: ms(1),
        duration: end,
        backlog_dropped: 0,
        marks: vec![Mark {
            at: ms(100),
            text: "n1: agent killed".to_owned(),
        }],
        pairs: vec![PairOutages {
            from: "p1".to_owned(),
            to: "p2".to_owned(),
            sent: record.probes().len() as u64,
            lost: record.lost(),
            duplicates: 0,
            reordered: 0,
            skipped: 2,
            overflowed: 0,
            longest_gap: record.longest_gap(),
            longest_rtt: record.longest_rtt().unwrap_or_default(),
            outages: found,
            errors: vec![("10.0.0.1 says host unreachable".to_owned(), 3)],
            strip,
        }],
        events: EventLog::new(),
    }
}

#[test]
fn a_timeline_is_printed_with_its_marks_and_outages() {
    let mut answered = [true; 360];
    answered[110..140].fill(false);
    answered[200] = false;
    let text = outages(&answered).to_string();
    let expected = "\
timeline of 1 pair by ping every 1.0 ms for 0.360 s: 31 of 360 lost
  A +0.100 s n1: agent killed
p1 → p2: 360 sent, 31 lost, 2 skipped for want of processor time, longest round trip 0.300 ms, \
longest gap 1.0 ms
  told 3 times: 10.0.0.1 says host unreachable
                       A
  |······················######············x·······························|
  outage +0.110 s for 30.3 ms (at least 29.0 ms), 30 lost, 10.0 ms after A
  outage +0.200 s for 1.300 ms, 1 lost, 100.0 ms after A
";
    assert_eq!(text, expected, "{text}");
}

#[test]
fn packets_that_no_processor_had_time_for_are_told_above_the_pairs() {
    let mut slow = outages(&[true, false, true]);
    slow.backlog_dropped = 405;
    let text = slow.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[2].contains("threw away 405 packets"), "{text}");
    assert!(lines[3].starts_with("p1 → p2: "), "{text}");
}

#[test]
fn assertions_hold_up_to_their_bounds() {
    let mut answered = [true; 100];
    assert!(outages(&answered).assert_no_loss().is_ok());
    answered[10..15].fill(false);
    let outages = outages(&answered);
    assert!(outages.assert_no_loss().is_err());
    assert!(outages.assert_lost_at_most(4).is_err());
    assert!(outages.assert_lost_at_most(5).is_ok());
    assert!(outages.assert_no_outage_longer_than(ms(4)).is_err());
    assert!(outages.assert_no_outage_longer_than(ms(6)).is_ok());
    assert_eq!(outages.outages(ms(4)).count(), 1);
    assert_eq!(outages.outages(ms(6)).count(), 0);
    let error = outages.assert_no_loss().unwrap_err().to_string();
    assert!(
        error.starts_with("not so that no pair loses more than 0 probes: p1 → p2\ntimeline of")
    );
    let error = outages.pair("p2", "p1").unwrap_err().to_string();
    assert!(error.contains("it has p1 → p2"), "{error}");
}

#[test]
fn a_pair_that_sent_nothing_proves_nothing() {
    assert!(outages(&[]).assert_no_loss().is_err());
    assert!(outages(&[]).assert_no_outage_longer_than(ms(5)).is_err());
}
