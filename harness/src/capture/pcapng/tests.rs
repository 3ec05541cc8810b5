//! What is written is what a pcapng reader finds.

use pcap_file::pcapng::{Block, PcapNgReader};

use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use std::time::{Duration, SystemTime};

use super::blocks::MADE_UP_DESCRIPTION;
use super::*;
use crate::capture::Direction;
use crate::packet::{ChecksumState, LinkType, Packet};

fn captured(nanoseconds: u64, direction: Direction, packet: Packet) -> Captured {
    Captured {
        time: SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds),
        direction,
        device: "n1/eth0".into(),
        original_length: packet.wire_length(),
        checksum: ChecksumState::NotReady,
        packet,
    }
}

fn recording(device: &str, link_type: LinkType, packets: Vec<Captured>) -> Recording {
    Recording {
        device: device.to_owned(),
        link_type,
        packets,
        dropped: 7,
        forgotten: 0,
        gone: false,
    }
}

const LATE: u64 = 1_769_862_896_123_456_789;

fn two_recordings() -> [Recording; 2] {
    let cut = Packet::decode_cut(LinkType::Ip, vec![0x45; 21], 84);
    let whole = Packet::decode(LinkType::Ethernet, vec![3; 15]);
    [
        recording(
            "n1/eth0",
            LinkType::Ethernet,
            vec![
                captured(5, Direction::Outgoing, whole.clone()),
                captured(LATE, Direction::Outgoing, whole),
            ],
        ),
        recording(
            "n1/tunl0",
            LinkType::Ip,
            vec![captured(9, Direction::Incoming, cut)],
        ),
    ]
}

fn blocks(recordings: &[Recording]) -> Vec<Block<'static>> {
    let bytes = write_pcapng(Vec::new(), recordings).unwrap();
    let mut reader = PcapNgReader::new(bytes.as_slice()).unwrap();
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block() {
        blocks.push(block.unwrap().into_owned());
    }
    blocks
}

fn interfaces(recordings: &[Recording]) -> Vec<InterfaceDescriptionBlock<'static>> {
    blocks(recordings)
        .into_iter()
        .filter_map(Block::into_interface_description)
        .collect()
}

fn packets(recordings: &[Recording]) -> Vec<EnhancedPacketBlock<'static>> {
    blocks(recordings)
        .into_iter()
        .filter_map(Block::into_enhanced_packet)
        .collect()
}

#[test]
fn every_tap_is_an_interface_with_its_name() {
    let interfaces = interfaces(&two_recordings());
    let names = ["n1/eth0", "n1/tunl0"];
    assert_eq!(interfaces.len(), names.len());
    for (interface, name) in interfaces.iter().zip(names) {
        assert!(
            interface
                .options
                .contains(&InterfaceDescriptionOption::IfName(name.into()))
        );
        assert!(
            interface
                .options
                .contains(&InterfaceDescriptionOption::IfTsResol(9))
        );
    }
}

#[test]
fn packets_of_all_taps_stand_in_the_order_of_time() {
    let packets = packets(&two_recordings());
    let order: Vec<_> = packets
        .iter()
        .map(|packet| (packet.interface_id, packet.timestamp.as_nanos()))
        .collect();
    assert_eq!(order, [(0, 5), (1, 9), (0, LATE.into())]);
    assert_eq!(
        packets[1].options,
        [EnhancedPacketOption::Flags(1 | 1 << 9)]
    );
    assert_eq!(
        packets[0].options,
        [EnhancedPacketOption::Flags(2 | 1 << 9)]
    );
}

#[test]
fn a_tap_without_link_header_keeps_its_packets_as_they_are() {
    let [_, tunnel] = two_recordings();
    assert_eq!(
        interfaces(std::slice::from_ref(&tunnel))[0].linktype,
        DataLink::RAW
    );
    let packet = &packets(std::slice::from_ref(&tunnel))[0];
    assert_eq!(
        (packet.original_len, packet.data.as_ref()),
        (84, &[0x45; 21][..])
    );
}

#[test]
fn beside_an_ethernet_tap_it_gets_a_header_and_says_so() {
    let recordings = two_recordings();
    let interfaces = interfaces(&recordings);
    let says_so = InterfaceDescriptionOption::IfDescription(MADE_UP_DESCRIPTION.into());
    assert!(
        interfaces
            .iter()
            .all(|interface| interface.linktype == DataLink::ETHERNET)
    );
    assert!(interfaces[1].options.contains(&says_so) && !interfaces[0].options.contains(&says_so));
    let packet = &packets(&recordings)[1];
    assert_eq!((packet.original_len, packet.data.len()), (84 + 14, 21 + 14));
    assert_eq!(packet.data[12..16], [8, 0, 0x45, 0x45]);
}

#[test]
fn drops_are_in_the_statistics() {
    let statistics: Vec<_> = blocks(&two_recordings())
        .into_iter()
        .filter_map(Block::into_interface_statistics)
        .collect();
    assert_eq!(statistics.len(), 2);
    assert_eq!(
        (statistics[0].interface_id, statistics[0].timestamp),
        (0, LATE)
    );
    assert!(
        statistics[0]
            .options
            .contains(&InterfaceStatisticsOption::IsbOsDrop(7))
    );
    assert!(
        statistics[0]
            .options
            .contains(&InterfaceStatisticsOption::IsbUsrDeliv(2))
    );
}

/// A reader takes the first half of a time for the high one, in the statistics as with packets.
#[test]
fn times_are_written_high_half_first() {
    let bytes = write_pcapng(Vec::new(), &two_recordings()).unwrap();
    let times = bytes
        .windows(8)
        .filter(|bytes| *bytes == LATE.to_be_bytes());
    assert_eq!(times.count(), 2, "one packet, one block of statistics");
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let error = save_pcapng("/nonexistent/x.pcapng".as_ref(), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write the capture file /nonexistent/x.pcapng: \
         No such file or directory (os error 2)"
    );
    assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
}
