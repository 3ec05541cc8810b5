//! The file is whole after every flush, in order when it is finished, and does not outgrow its limit.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::capture::{Direction, Recording, read_pcapng};
use crate::packet::{ChecksumState, LinkType};

const SECOND: u64 = 1_000_000_000;

fn at(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn frame(nanoseconds: u64, length: usize) -> Frame {
    Frame {
        time: at(nanoseconds),
        direction: Direction::Outgoing,
        checksum: ChecksumState::NotReady,
        wire_length: length,
        bytes: Bytes::from(vec![7; length]),
    }
}

fn two_taps() -> Vec<Interface> {
    vec![
        ("n1/eth0".into(), LinkType::Ethernet),
        ("n1/lan".into(), LinkType::Ethernet),
    ]
}

fn create(limit: u64) -> (tempfile::TempDir, ContinuousFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/x.pcapng");
    let file = ContinuousFile::create(&path, two_taps(), limit).unwrap();
    (folder, file)
}

fn times(recording: &Recording) -> Vec<u64> {
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let packets = recording.packets.iter();
    packets.map(|p| since(p.time).as_nanos() as u64).collect()
}

/// All packets in the order in which they stand in the file: by time they are sorted already.
fn read(file: &ContinuousFile) -> Vec<Recording> {
    read_pcapng(file.path()).unwrap()
}

#[test]
fn a_new_file_has_its_interfaces_and_can_be_read() {
    let (_folder, file) = create(1 << 20);
    let names: Vec<_> = read(&file).into_iter().map(|r| r.device).collect();
    assert_eq!(names, ["n1/eth0", "n1/lan"]);
}

#[test]
fn what_is_written_is_read_back_with_everything_that_the_tap_said() {
    let (_folder, mut file) = create(1 << 20);
    file.push(1, frame(9 * SECOND + 1, 33));
    file.flush(None).unwrap();
    let packet = read(&file)[1].packets[0].clone();
    assert_eq!(packet.time, at(9 * SECOND + 1));
    assert_eq!(packet.direction, Direction::Outgoing);
    assert_eq!(packet.checksum, ChecksumState::NotReady);
    assert_eq!((packet.original_length, &*packet.device), (33, "n1/lan"));
    assert_eq!(packet.packet.bytes(), &vec![7; 33]);
}

#[test]
fn younger_packets_wait_for_older_ones_of_other_taps_but_only_once() {
    let (_folder, mut file) = create(1 << 20);
    file.push(0, frame(5, 20));
    file.push(0, frame(30, 20));
    file.flush(Some(at(10))).unwrap();
    assert_eq!(times(&read(&file)[0]), [5]);
    assert!(file.is_pending());
    file.push(1, frame(20, 20));
    // The one that waited is written, though it is younger than the moment.
    file.flush(Some(at(10))).unwrap();
    assert_eq!(times(&read(&file)[0]), [5, 30]);
    assert_eq!(times(&read(&file)[1]), [0; 0]);
    file.flush(Some(at(40))).unwrap();
    assert_eq!(times(&read(&file)[1]), [20]);
}

#[test]
fn packets_of_one_round_are_sorted() {
    let (_folder, mut file) = create(1 << 20);
    for time in [3, 1, 2] {
        file.push(0, frame(time, 20));
    }
    file.flush(None).unwrap();
    assert_eq!(times(&read(&file)[0]), [1, 2, 3]);
}

/// The kernel may hand a packet to a tap long after it has stamped it.
#[test]
fn a_finished_file_is_in_the_order_of_time_however_late_a_packet_came() {
    let (_folder, mut file) = create(1 << 20);
    let order = |file: &ContinuousFile| -> Vec<u32> {
        let bytes = std::fs::read(file.path()).unwrap();
        let mut reader = pcap_file::pcapng::PcapNgReader::new(&*bytes).unwrap();
        let mut order = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Some(packet) = block.unwrap().into_enhanced_packet() {
                order.push(packet.original_len);
            }
        }
        order
    };
    // Across the halves of the time of a block, too.
    for (interface, time, length) in [(0, 6 * SECOND, 60), (1, 2, 20), (1, 6 * SECOND, 61)] {
        file.push(interface, frame(time, length));
        file.lost(interface, time);
        file.flush(None).unwrap();
    }
    assert_eq!(order(&file), [60, 20, 61]);
    let before = read(&file);
    file.finish().unwrap();
    assert_eq!(order(&file), [20, 60, 61]);
    let after = read(&file);
    assert_eq!(times(&after[1]), times(&before[1]));
    assert_eq!(after[1].dropped, 6 * SECOND);
    assert_eq!((after[0].forgotten, after[1].forgotten), (0, 0));
    assert_eq!(file.length, std::fs::metadata(file.path()).unwrap().len());
}

#[test]
fn the_newest_packets_stay_and_the_file_says_how_many_went() {
    const LIMIT: u64 = 20_000;
    let (_folder, mut file) = create(LIMIT);
    let mut longest = 0;
    for time in 0..1000 {
        file.push((time % 2) as u32, frame(time, 100));
        file.flush(None).unwrap();
        longest = longest.max(std::fs::metadata(file.path()).unwrap().len());
        assert_eq!(file.length, std::fs::metadata(file.path()).unwrap().len());
    }
    file.lost(1, 4);
    file.finish().unwrap();
    assert!(longest <= LIMIT, "{longest}");
    let recordings = read(&file);
    let kept: Vec<u64> = recordings.iter().flat_map(times).collect();
    let kept_count = kept.len() as u64;
    assert!(kept_count > 50, "{kept_count} are hardly a half");
    let mut sorted = kept.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(1000 - kept_count..1000));
    assert_eq!((recordings[0].dropped, recordings[1].dropped), (0, 4));
    let bytes = std::fs::read(file.path()).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let comment = format!("{} older packets were removed", 1000 - kept_count);
    assert!(text.contains(&comment), "not {comment}");
}

#[test]
fn losses_are_in_the_file_before_the_end() {
    let (_folder, mut file) = create(1 << 20);
    file.push(0, frame(1, 20));
    file.lost(0, 3);
    file.flush(None).unwrap();
    assert_eq!(read(&file)[0].dropped, 3);
    file.lost(0, 5);
    file.flush(None).unwrap();
    assert_eq!(read(&file)[0].dropped, 5);
}

#[test]
fn a_file_that_is_cut_anywhere_is_read_up_to_the_cut() {
    let (_folder, mut file) = create(1 << 20);
    let head = file.length as usize;
    for time in 0..3 {
        file.push(0, frame(time, 33));
    }
    file.flush(None).unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    let block = (bytes.len() - head) / 3;
    for cut in head..bytes.len() {
        let recordings = crate::capture::read_pcapng_from(&bytes[..cut]).unwrap();
        assert_eq!(recordings[0].packets.len(), (cut - head) / block);
    }
}

#[test]
fn a_temporary_file_goes_with_the_capture_unless_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    for keep in [false, true] {
        let made = ContinuousFile::create_temporary(folder.path(), "a.b-", two_taps(), 1 << 20);
        let mut file = made.unwrap();
        let path = file.path().to_owned();
        assert!(path.to_string_lossy().ends_with(".pcapng"));
        if keep {
            file.keep();
        }
        drop(file);
        assert_eq!(path.exists(), keep);
    }
}
