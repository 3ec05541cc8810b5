//! Waiting for packets: woken by them, and telling what came instead.

use std::time::Duration;

use podlab::capture::{CaptureError, Captured, Direction, Filter};

use crate::frames;
use crate::support::{PATIENCE, Sender, lo, start};

#[tokio::test]
async fn waiting_is_woken_by_the_packet() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4003));
    let sender = Sender::on("lo");
    let send_later = async {
        // The wait below is polled first and finds nothing.
        assert_eq!(capture.packets(), []);
        sender.send(&frames::ethernet(0x0800, &frames::udp(4003, 1, b"")));
        tokio::task::yield_now().await;
        sender.send(&frames::ethernet(0x0800, &frames::udp(4003, 2, b"")));
    };
    let to_port_2 = |seen: &Captured| {
        seen.packet
            .udp()
            .is_some_and(|udp| udp.destination_port == 2)
            && seen.direction == Direction::Incoming
    };
    let (found, ()) = tokio::join!(capture.wait_for(to_port_2, PATIENCE), send_later);
    assert_eq!(found.unwrap().packet.udp().unwrap().destination_port, 2);
    // What was captured before the call counts as well.
    let at_once = capture
        .wait_for(|seen| seen.packet.udp().is_some(), Duration::ZERO)
        .await;
    assert_eq!(at_once.unwrap().packet.udp().unwrap().destination_port, 1);
    let four = |packets: &[Captured]| (packets.len() == 4).then_some(packets.len());
    assert_eq!(capture.wait_until(four, Duration::ZERO).await.unwrap(), 4);
}

#[tokio::test]
async fn waiting_in_vain_tells_what_was_seen() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4004));
    let none = capture
        .wait_for(|_| true, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(
        none.to_string(),
        "n1/lo: not seen within 0ns; no packet was captured"
    );
    Sender::on("lo").send(&frames::ethernet(0x0800, &frames::udp(4004, 1, b"abc")));
    let error = capture
        .wait_for(|_| false, Duration::ZERO)
        .await
        .unwrap_err();
    let CaptureError::NotSeen { ref seen, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(seen.len(), 2);
    let text = error.to_string();
    assert!(text.contains("captured 2 packets:\n"), "{text}");
    assert!(
        text.contains(" n1/lo out: IP 192.168.1.12.4004 > 192.168.2.6.1: UDP, length 3"),
        "{text}"
    );
}
