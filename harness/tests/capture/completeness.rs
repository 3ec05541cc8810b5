//! Nothing is lost in silence, and nothing is there that should not be.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use podlab::capture::{Direction, Filter};

use crate::frames;
use crate::support::{Sender, lo, of, set_up, start};

/// What was on the wire before `stop` is in the recording, though the runtime never had a moment
/// to read it; and nothing that came later.
#[tokio::test]
async fn stop_returns_every_packet_that_was_on_the_wire_before() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4001));
    let sender = Sender::on("lo");
    let sent: Vec<_> = (0..4000u16)
        .map(|n| frames::ethernet(0x0800, &frames::udp(4001, 9, &n.to_be_bytes())))
        .collect();
    sent.iter().for_each(|frame| sender.send(frame));
    let recording = capture.stop().await.unwrap();
    assert_eq!(of(&recording.packets, Direction::Incoming), sent);
    assert_eq!(of(&recording.packets, Direction::Outgoing), sent);
    assert_eq!((recording.device.as_str(), recording.dropped), ("n1/lo", 0));
}

/// `stop` ends although packets keep coming, faster than they are read.
#[tokio::test]
async fn stop_ends_under_a_flood() {
    let _turn = lo().await;
    let floods = [Flood::start(), Flood::start(), Flood::start()];
    let recording = start(&Filter::everything()).stop().await.unwrap();
    // More than this the kernel's buffer does not hold.
    assert!(recording.packets.len() <= 1 << 18);
    drop(floods);
}

/// The first moment of a socket is the dangerous one: bound, but without its filter.
#[tokio::test]
async fn nothing_slips_past_a_filter_while_the_socket_is_opened() {
    let _turn = lo().await;
    let flood = Flood::start();
    for _ in 0..100 {
        let capture = start(&!Filter::everything());
        assert_eq!(capture.stop().await.unwrap().packets, []);
    }
    drop(flood);
}

/// A capture that cannot hold everything says how much it lost.
#[tokio::test]
async fn drops_are_counted() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4009));
    let socket = UdpSocket::bind("127.0.0.1:4009").unwrap();
    let sent = 3000;
    let large = vec![0; 60_000];
    for _ in 0..sent {
        socket.send_to(&large, "127.0.0.1:4010").unwrap();
    }
    let recording = capture.stop().await.unwrap();
    assert!(recording.dropped > 0);
    assert_eq!(recording.packets.len() as u64 + recording.dropped, 2 * sent);
}

/// A link that flaps is what a test of an agent is about; the capture must survive it.
#[tokio::test]
async fn a_capture_survives_its_device_going_down() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4011));
    let packet = frames::ethernet(0x0800, &frames::udp(4011, 9, b""));
    let sender = Sender::on("lo");
    sender.send(&packet);
    set_up("lo", false);
    assert_eq!(capture.packets().len(), 2);
    set_up("lo", true);
    Sender::on("lo").send(&packet);
    assert_eq!(capture.stop().await.unwrap().packets.len(), 4);
}

/// A thread that sends as fast as it can.
struct Flood(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Flood {
    fn start() -> Flood {
        let go_on = Arc::new(AtomicBool::new(true));
        let frame = frames::ethernet(0x0800, &frames::udp(4002, 9, b"flood"));
        let sender = Sender::on("lo");
        let flag = Arc::clone(&go_on);
        let thread = std::thread::spawn(move || {
            while flag.load(Ordering::Relaxed) {
                sender.send(&frame);
            }
        });
        Flood(go_on, Some(thread))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}
