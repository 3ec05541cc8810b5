//! What the clauses say of a list of packets.

use rstest::rstest;

use super::*;

fn there() -> Packets<Tcp> {
    tcp(POD_A, POD_B)
}

fn back() -> Packets<Tcp> {
    tcp(POD_B, POD_A)
}

/// So that the cases need no lifetimes: their recordings live as long as the program.
type E = Expectation<'static>;
type Build = fn(E) -> E;

fn about(recording: Recording) -> E {
    Box::leak(Box::new(recording)).on()
}

#[rstest]
#[case::first(|e: E| e.first(there().syn()))]
#[case::in_order(|e: E| e.expect(there().syn()).then(back().syn().ack()).then(there().ack()))]
#[case::in_a_row(|e: E| e.first(there().syn()).next(back()).next(there()).next(there().psh().ack()))]
#[case::with_gaps(|e: E| e.first(there().syn()).finally(there().psh().ack()))]
#[case::anywhere(|e: E| e.expect(there().ack()))]
#[case::two_sequences(|e: E| e.expect(there().ack()).expect(there().syn()).then(back()))]
#[case::exactly(|e: E| e.exactly(3, there()).exactly(0, back().fin()))]
#[case::at_least(|e: E| e.at_least(2, there()).at_least(3, there()))]
#[case::none(|e: E| e.none(back().rst()).none(ipip(ANYBODY, ANYBODY)))]
#[case::nothing_else(|e: E| e.at_least(1, there()).expect(back()).nothing_else())]
#[case::except(|e: E| e.at_least(1, there()).nothing_else_except(back().or(arp())))]
#[case::among(|e: E| e.among(there()).first(there().syn()).then(there().ack()).finally(there()).exactly(3, there()))]
fn holds(#[case] build: Build) {
    build(about(handshake())).now().unwrap();
}

#[rstest]
#[case::another_first(|e: E| e.first(back()))]
#[case::out_of_order(|e: E| e.expect(back().syn().ack()).then(there().syn()))]
#[case::the_same_one_twice(|e: E| e.expect(back()).then(back()))]
#[case::not_there(|e: E| e.expect(there().fin()))]
#[case::another_last(|e: E| e.finally(there().ack()))]
#[case::not_in_a_row(|e: E| e.first(there()).next(there().ack()))]
#[case::nothing_next(|e: E| e.finally(there()).next(there()))]
#[case::only_one(|e: E| e.among(back()).first(back()).finally(back()))]
#[case::last_is_not_later(|e: E| e.expect(there().psh().ack()).finally(there().psh().ack()))]
#[case::too_few(|e: E| e.exactly(4, there()))]
#[case::too_many(|e: E| e.exactly(2, there()))]
#[case::not_so_many(|e: E| e.at_least(4, there()))]
#[case::one_too_many(|e: E| e.none(back()))]
#[case::something_else(|e: E| e.at_least(1, there()).nothing_else())]
#[case::something_else_except(|e: E| e.at_least(1, there()).nothing_else_except(back().rst()))]
#[case::all_must_hold(|e: E| e.expect(there()).none(back()))]
fn fails(#[case] build: Build) {
    let error = build(about(handshake())).now().unwrap_err();
    assert!(matches!(error, ExpectError::NotMet { .. }), "{error:?}");
}

#[test]
fn what_was_found_is_returned_in_the_order_of_the_clauses() {
    let recording = handshake();
    let e = recording.on().first(there().syn()).at_least(1, there());
    let found = e.then(there().ack()).finally(there()).now().unwrap();
    let numbers = [0, 2, 3].map(|number: usize| &recording.packets[number]);
    assert!(found.packets().eq(numbers));
    assert_eq!(found.at(&"n1/ens192".into()).len(), 3);
    assert!(found.at(&"n2/ens192".into()).is_empty());
}

#[rstest]
#[case::first(|e: E| e.first(there()))]
#[case::finally(|e: E| e.finally(there()))]
#[case::next(|e: E| e.expect(there()).next(back()))]
#[case::exactly(|e: E| e.exactly(3, there()))]
#[case::none(|e: E| e.none(there().rst()))]
#[case::nothing_else(|e: E| e.at_least(1, ip(ANYBODY, ANYBODY)).nothing_else())]
fn what_needs_every_packet_fails_where_some_are_missing(#[case] build: Build) {
    let mut recording = handshake();
    build(about(recording.clone()))
        .now()
        .expect("it holds while nothing is missing");
    recording.dropped = 5;
    let error = build(about(recording)).now().unwrap_err().to_string();
    assert!(
        error.contains("cannot be told, packets are missing (5 packets lost)"),
        "{error}"
    );
    assert!(error.contains("hint:"), "{error}");
}

#[test]
fn what_was_found_is_found_though_other_packets_are_missing() {
    let mut recording = handshake();
    recording.dropped = 5;
    let e = recording
        .on()
        .expect(there())
        .then(back())
        .at_least(3, there());
    e.now().unwrap();
}

#[test]
fn packets_that_are_still_to_come_may_change_only_what_they_can() {
    use super::super::clause::{Clause, judge};
    let recording = handshake();
    let none = crate::capture::Losses::default();
    let may_change = |clause: Clause| {
        let verdict = judge(&[clause], &recording.packets, none);
        verdict.failures[0].may_change
    };
    assert!(may_change(Clause::Some(there().fin().into())));
    assert!(may_change(Clause::Finally(there().fin().into())));
    assert!(may_change(Clause::Exactly(9, there().into())));
    assert!(may_change(Clause::AtLeast(9, there().into())));
    assert!(!may_change(Clause::Exactly(1, there().into())));
    assert!(!may_change(Clause::First(back().into())));
    assert!(!may_change(Clause::None(back().into())));
    assert!(!may_change(Clause::NothingElse(None)));
    let verdict = judge(&[Clause::First(back().into())], &[], none);
    assert!(verdict.failures[0].may_change);
}

#[test]
fn an_expectation_without_a_clause_is_an_error() {
    let error = handshake().on().now().unwrap_err().to_string();
    assert!(
        error.starts_with("nothing is expected on n1/ens192\nhint:"),
        "{error}"
    );
}
