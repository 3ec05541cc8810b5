//! What the kernel says about a packet besides its bytes, and that the bytes are all there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::SystemTime;

use podlab::capture::{Direction, Filter, TimeStamps};
use podlab::packet::{ChecksumState, ChecksumVerdict, LinkType, Packet};

use crate::frames;
use crate::support::{Sender, lo, of, start};

/// Time, length, checksum state and direction are those of the packet.
#[tokio::test]
async fn metadata() {
    let _turn = lo().await;
    let _time_stamps = TimeStamps::switch_on().unwrap();
    let capture = start(&Filter::port(4005));
    let before = SystemTime::now();
    let socket = UdpSocket::bind("127.0.0.1:4005").unwrap();
    socket
        .send_to(b"through the stack", "127.0.0.1:4006")
        .unwrap();
    let after = SystemTime::now();
    let packets = capture.stop().await.unwrap().packets;
    assert_eq!(packets.len(), 2);
    assert_eq!(
        [packets[0].direction, packets[1].direction],
        [Direction::Outgoing, Direction::Incoming]
    );
    for captured in &packets {
        assert!(
            before <= captured.time && captured.time <= after,
            "{captured}"
        );
        assert_eq!(captured.original_length, 14 + 20 + 8 + 17);
        assert_eq!(captured.packet.payload(), b"through the stack");
        // The loopback device claims to compute checksums, so the stack leaves them to it.
        assert_eq!(captured.checksum, ChecksumState::NotReady);
        let raw = captured.packet.transport_checksum(ChecksumState::Complete);
        assert!(
            matches!(raw, Some(ChecksumVerdict::Wrong { .. })),
            "{raw:?}"
        );
        let completed = Packet::decode(LinkType::Ip, captured.canonical_inner().unwrap());
        let verdict = completed.transport_checksum(ChecksumState::Complete);
        assert_eq!(verdict, Some(ChecksumVerdict::Correct));
    }
    assert_eq!(packets[0].canonical_inner(), packets[1].canonical_inner());
    let nanoseconds = packets.iter().map(|captured| {
        captured
            .time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .subsec_nanos()
    });
    assert!(
        nanoseconds.into_iter().any(|n| n % 1000 != 0),
        "stamps count nanoseconds"
    );
}

/// A frame that came with its checksum is not taken for an unfinished one.
#[tokio::test]
async fn a_finished_checksum_is_known_as_such() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4007));
    Sender::on("lo").send(&frames::ethernet(0x0800, &frames::udp(4007, 9, b"x")));
    for captured in capture.stop().await.unwrap().packets {
        assert_eq!(captured.checksum, ChecksumState::Complete);
        assert_eq!(
            captured.transport_checksum(),
            Some(ChecksumVerdict::Correct)
        );
    }
}

/// The kernel takes VLAN tags out of the frame; a recording has them where they were.
#[tokio::test]
async fn vlan_tags_stay_in_the_frame() {
    let _turn = lo().await;
    let capture = start(&Filter::source(frames::POD_A.into()));
    let tagged = [&[0x20, 5, 8, 0][..], &frames::udp(4008, 9, b"x")].concat();
    let frame = frames::ethernet(0x8100, &tagged);
    Sender::on("lo").send(&frame);
    let packets = capture.stop().await.unwrap().packets;
    assert_eq!(packets[0].original_length, frame.len());
    assert_eq!(of(&packets, Direction::Incoming), [frame]);
}

/// Segmentation offload hands packets of up to 64 KiB to the tap; none of it may be missing.
#[tokio::test]
async fn large_packets_are_captured_whole() {
    let _turn = lo().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let capture = start(&Filter::port(port));
    let data: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let receiver = std::thread::spawn(move || {
        let mut received = Vec::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_end(&mut received)
            .unwrap();
        received
    });
    stream.write_all(&data).unwrap();
    drop(stream);
    assert!(receiver.join().unwrap() == data);
    let recording = capture.stop().await.unwrap();
    assert_eq!(recording.dropped, 0);
    let to_server = recording.packets.iter().filter(|captured| {
        captured.direction == Direction::Outgoing
            && captured
                .packet
                .tcp()
                .is_some_and(|tcp| tcp.destination_port == port)
    });
    let mut first = None;
    let mut rebuilt = vec![0; data.len()];
    let mut largest = 0;
    for captured in to_server {
        assert_eq!(captured.packet.stop(), None, "{captured}");
        assert_eq!(captured.original_length, captured.packet.bytes().len());
        largest = largest.max(captured.original_length);
        let tcp = captured.packet.tcp().unwrap();
        let start = *first.get_or_insert(tcp.sequence.wrapping_add(1));
        let payload = captured.packet.payload();
        if !payload.is_empty() {
            let at = tcp.sequence.wrapping_sub(start) as usize;
            rebuilt[at..at + payload.len()].copy_from_slice(payload);
        }
    }
    assert!(rebuilt == data, "the captured segments are what was sent");
    assert!(
        largest > 60_000,
        "segmentation offload was at work: {largest}"
    );
}
