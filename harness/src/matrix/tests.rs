use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::expectation::Shown;
use super::*;
use crate::event::EventLog;
use crate::probe::Failure;

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 2);

fn answered(source: Ipv4Addr, ttl: u8) -> Result<Shown, Failed> {
    Ok(Shown {
        source: Some(source),
        ttl: Some(ttl),
        ttl_back: None,
        latency: Duration::from_millis(2),
    })
}

fn failed(how: Failure) -> Result<Shown, Failed> {
    Err(Failed {
        how,
        error: format!("it {how}\nhint: look"),
    })
}

fn actual(shown: impl IntoIterator<Item = Result<Shown, Failed>>) -> Actual {
    let mut actual = Actual::default();
    shown.into_iter().for_each(|shown| actual.add(shown));
    actual
}

#[rstest]
#[case::all_right(Expectation::reachable().source(SOURCE).ttl(62), &[])]
#[case::source(Expectation::reachable().source(OTHER), &[Difference::Source])]
#[case::ttl(Expectation::reachable().ttl(61), &[Difference::Ttl])]
#[case::slow(Expectation::reachable().within(Duration::from_millis(1)), &[Difference::Latency])]
#[case::in_time(Expectation::reachable().within(Duration::from_millis(2)), &[])]
#[case::everything(
    Expectation::reachable().source(OTHER).ttl(61).within(Duration::ZERO),
    &[Difference::Source, Difference::Ttl, Difference::Latency],
)]
#[case::answered(Expectation::unreachable(), &[Difference::Answered])]
#[case::answered_otherwise(Expectation::failing(Failure::Refused), &[Difference::Answered])]
fn an_answer_is_compared_in_everything_that_is_expected(
    #[case] expected: Expectation,
    #[case] differences: &[Difference],
) {
    let actual = actual([answered(SOURCE, 62)]);
    assert_eq!(expected.judge(&actual), differences);
}

#[rstest]
#[case(Expectation::reachable().source(SOURCE).ttl(62), &[Difference::Lost])]
#[case(Expectation::unreachable(), &[])]
#[case(Expectation::failing(Failure::TimedOut), &[])]
#[case(Expectation::failing(Failure::Refused), &[Difference::How])]
fn no_answer_is_compared(#[case] expected: Expectation, #[case] differences: &[Difference]) {
    let actual = actual([failed(Failure::TimedOut)]);
    assert_eq!(expected.judge(&actual), differences);
}

#[test]
fn what_the_target_does_not_answer_itself_proves_nothing() {
    let mut actual = actual([failed(Failure::TimedOut)]);
    actual.control = Some("it timed out".to_owned());
    for expected in [
        Expectation::unreachable(),
        Expectation::failing(Failure::TimedOut),
    ] {
        assert_eq!(expected.judge(&actual), [Difference::Unproven]);
    }
}

#[test]
fn a_probe_that_arrived_twice_is_never_right() {
    let mut twice = actual([answered(SOURCE, 62)]);
    twice.doubled = 1;
    let expected = Expectation::reachable();
    assert_eq!(expected.judge(&twice), [Difference::Doubled]);
}

#[test]
fn the_answers_ttl_is_compared_by_itself() {
    let mut actual = actual([answered(SOURCE, 62)]);
    actual.ttls_back = vec![61];
    let expected = Expectation::reachable().ttl(62);
    assert_eq!(expected.clone().ttl_back(61).judge(&actual), []);
    assert_eq!(expected.ttl_back(62).judge(&actual), [Difference::TtlBack]);
}

#[test]
fn a_source_or_ttl_that_changes_or_is_unknown_is_not_the_expected_one() {
    let both = actual([answered(SOURCE, 62), answered(OTHER, 63)]);
    let expected = Expectation::reachable().lost(0..=0, 2);
    assert_eq!(expected.judge(&both), []);
    assert_eq!(
        expected.clone().source(SOURCE).judge(&both),
        [Difference::Source]
    );
    assert_eq!(expected.ttl(63).judge(&both), [Difference::Ttl]);

    let unknown = actual([Ok(Shown {
        source: None,
        ttl: None,
        ttl_back: None,
        latency: Duration::ZERO,
    })]);
    let expected = Expectation::reachable().source(SOURCE).ttl(62);
    assert_eq!(
        expected.judge(&unknown),
        [Difference::Source, Difference::Ttl]
    );
}

proptest! {
    #[test]
    fn a_loss_within_the_bounds_and_no_other_is_right(
        sent in 1_u32..40, lost in 0_u32..40, least in 0_u32..40, most in 0_u32..40,
    ) {
        let lost = lost.min(sent);
        let probes = (0..sent).map(|at| match at < lost {
            true => failed(Failure::TimedOut),
            false => answered(SOURCE, 62),
        });
        let expected = Expectation::reachable().lost(least..=most, sent);
        let right = expected.judge(&actual(probes)).is_empty();
        prop_assert_eq!(right, (least..=most).contains(&lost));
    }
}

#[rstest]
#[case(Expectation::reachable().lost(0..=0, 0))]
#[case(Expectation::reachable().lost(RangeInclusive::new(3, 2), 9))]
#[case(Expectation::reachable().lost(0..=9, 9))]
#[case(Expectation::unreachable().ttl(62))]
#[case(Expectation::reachable().ttl_back(62))]
#[case(Expectation::unreachable().source(SOURCE))]
#[case(Expectation::unreachable().lost(0..=1, 9))]
fn what_can_never_be_judged_is_a_fault(#[case] expected: Expectation) {
    assert!(expected.fault(Probe::tcp(56)).is_some(), "{expected}");
}

/// A matrix of peers `p1` to `pN` by ping; `wrong` says which pairs have no answer.
fn matrix(peers: usize, wrong: impl Fn(usize, usize) -> bool) -> Matrix {
    let names: Vec<String> = (1..=peers).map(|number| format!("p{number}")).collect();
    let mut checks = Vec::new();
    for (row, from) in names.iter().enumerate() {
        for (column, to) in names
            .iter()
            .enumerate()
            .filter(|(column, _)| *column != row)
        {
            let lost = wrong(row + 1, column + 1);
            let shown = if lost {
                failed(Failure::TimedOut)
            } else {
                answered(SOURCE, 62)
            };
            let expected = Expectation::reachable().ttl(62);
            let actual = actual([shown]);
            checks.push(Check {
                from: from.clone(),
                to: to.clone(),
                probe: Probe::icmp(56),
                wrong: expected.judge(&actual),
                expected,
                actual,
                wrong_rounds: u32::from(lost) * 7,
            });
        }
    }
    Matrix {
        stable: checks.iter().all(Check::is_right),
        from: names.clone(),
        to: names,
        checks,
        rounds: 7,
        elapsed: Duration::from_millis(1234),
        events: EventLog::new(),
    }
}

#[test]
fn a_matrix_is_printed_as_a_grid_with_what_is_wrong_below() {
    let text = matrix(3, |from, to| (from, to) == (1, 3)).to_string();
    let expected = "\
matrix of 6 pairs by icmp 56: 1 of 6 answers wrong after 7 rounds in 1.23 s
         p1    p2    p3
  p1           ok    ✗
  p2     ok          ok
  p3     ok    ok
  ok reachable as expected   -- unreachable as expected   ✗ wrong
p1 → p3: icmp 56
  expected  reachable, ttl 62
  actual    no answer: timed out (it timed out)
  differs   lost, in 7 of 7 rounds
";
    assert_eq!(text, expected, "{text}");
}

#[test]
fn of_a_large_matrix_only_what_is_wrong_is_printed() {
    let text = matrix(100, |from, to| to == 50 && from % 2 == 1).to_string();
    assert!(text.lines().count() < 130, "{text}");
    assert!(text.contains("50 of 9900 answers wrong"), "{text}");
    assert!(text.contains("all 50 wrong pairs are to p50\n"), "{text}");
    assert!(text.ends_with("… and 30 more wrong pairs\n"), "{text}");
    assert!(
        text.contains("(76 more rows and 99 more columns are not shown)"),
        "{text}"
    );
    let right = matrix(100, |_, _| false).to_string();
    assert_eq!(right.lines().count(), 1, "{right}");
}

#[test]
fn a_matrix_that_was_right_and_not_for_long_enough_is_wrong() {
    let mut matrix = matrix(2, |_, _| false);
    assert!(matrix.assert().is_ok());
    matrix.stable = false;
    assert!(!matrix.is_right());
    assert!(matrix.assert().is_err());
}

#[test]
fn a_matrix_is_serialised_with_what_was_expected_and_what_came() {
    let json = serde_json::to_value(matrix(2, |from, _| from == 1)).unwrap();
    let check = &json["checks"][0];
    assert_eq!(check["from"], "p1");
    assert_eq!(check["probe"]["protocol"], "icmp");
    assert_eq!(check["expected"]["ttl"], 62);
    assert_eq!(check["actual"]["failures"][0]["how"], "timed-out");
    assert_eq!(check["wrong"], serde_json::json!(["lost"]));
    assert_eq!(json["checks"][1]["actual"]["latency_ms"], 2.0);
    assert_eq!(json["elapsed_ms"], 1234.0);
}
