//! What a reader of a failed test sees, to the letter.

use super::*;

fn report(e: Expectation<'_>) -> String {
    e.now().unwrap_err().to_string()
}

/// Shows both as they are: a text in quotes cannot be compared by eye.
fn same(report: &str, expected: &str) {
    assert!(
        report == expected.trim_end(),
        "the report is\n{report}\nand not\n{expected}"
    );
}

#[test]
fn a_packet_that_is_missing() {
    let recording = recording([
        frames::ipip(&frames::syn()),
        frames::udp(5353, 53, b"what"),
        frames::ipip(&frames::tcp(frames::ACK, 1, 1, &[], b"")),
        frames::icmp(8, 0, [0, 1, 0, 1], b""),
        frames::syn(),
    ]);
    let inner = tcp(POD_A, (POD_B, 8080)).syn().ttl(63);
    let report = report(
        recording
            .on()
            .expect(ipip(NODE_A, NODE_B).ttl(63).around(inner)),
    );
    same(&report, include_str!("messages/missing.txt"));
}

#[test]
fn a_packet_that_came_too_early() {
    let recording = handshake();
    let report = report(
        recording
            .on()
            .expect(tcp(POD_B, POD_A))
            .then(tcp(POD_A, POD_B).syn()),
    );
    same(&report, include_str!("messages/too_early.txt"));
}

#[test]
fn another_packet_at_the_end() {
    let recording = handshake();
    let report = report(recording.on().finally(tcp(POD_A, POD_B).ack()));
    same(&report, include_str!("messages/another.txt"));
}

#[test]
fn packets_that_should_not_be_there() {
    let recording = handshake();
    let e = recording
        .on()
        .at_least(1, tcp(POD_A, POD_B))
        .none(tcp(ANYBODY, (POD_B, 8080)));
    let report = report(e.nothing_else_except(icmp(POD_B, ANYBODY)));
    same(&report, include_str!("messages/unwanted.txt"));
}

#[test]
fn a_wrong_number_of_packets() {
    let recording = handshake();
    let report = report(
        recording
            .on()
            .among(tcp(POD_A, POD_B))
            .exactly(2, tcp(ANYBODY, ANYBODY).ack()),
    );
    same(&report, include_str!("messages/count.txt"));
}

#[test]
fn nothing_at_all() {
    let recording = recording([]);
    let report = report(
        recording
            .on()
            .expect(arp().request().target(POD_B))
            .first(arp()),
    );
    same(&report, include_str!("messages/nothing.txt"));
}
