//! Recordings as pcapng files, for Wireshark, tshark and `tcpdump -r`.
//!
//! Format: draft-ietf-opsawg-pcapng. One section, an interface block per recording with the name
//! of the tap, all packets in the order of their time, a statistics block per recording.
//!
//! libpcap, and so `tcpdump -r`, reads no file whose interfaces differ in their link type. Where
//! devices with and without link header come together, the packets of the latter get an Ethernet
//! header with zero addresses, as Linux shows its loopback device, and the interface's description
//! says so.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};
use thiserror::Error;

use super::{Captured, Direction, Recording};
use crate::packet::{ChecksumState, LinkType};

/// `if_tsresol`: time stamps count units of 10^-9 seconds, which is what pcap-file writes.
const NANOSECONDS: u8 = 9;

/// What stands before an IPv4 packet of a device without link header, where others have one.
const MADE_UP_HEADER: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const MADE_UP_DESCRIPTION: &str = "has no link header; the Ethernet headers here are made up";

/// Bits of `epb_flags`.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
const CHECKSUM_NOT_READY: u32 = 1 << 9;

/// A capture file could not be written.
#[derive(Debug, Error)]
#[error("cannot write the capture file {path}")]
pub struct PcapngError {
    /// The file.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

/// Writes recordings into one new file; an old one of that name is replaced.
///
/// # Errors
///
/// The file cannot be made or written.
pub fn save_pcapng(path: &Path, recordings: &[Recording]) -> Result<(), PcapngError> {
    File::create(path)
        .and_then(|file| write_pcapng(BufWriter::new(file), recordings)?.flush())
        .map_err(|source| PcapngError {
            path: path.to_owned(),
            source,
        })
}

/// Writes recordings as one pcapng section, and gives the writer back.
///
/// # Errors
///
/// The writer cannot be written to.
pub fn write_pcapng<W: Write>(writer: W, recordings: &[Recording]) -> io::Result<W> {
    // Big-endian, because pcap-file writes the time of a statistics block as one number where the
    // format has two halves, the high one first.
    let mut file = PcapNgWriter::with_endianness(writer, Endianness::Big).map_err(io_error)?;
    let of_file = match recordings
        .iter()
        .any(|other| other.link_type == LinkType::Ethernet)
    {
        true => LinkType::Ethernet,
        false => LinkType::Ip,
    };
    for recording in recordings {
        block(&mut file, interface(recording, of_file))?;
    }
    let mut packets: Vec<(u32, &Captured)> = (0..)
        .zip(recordings)
        .flat_map(|(id, recording)| recording.packets.iter().map(move |packet| (id, packet)))
        .collect();
    packets.sort_by_key(|(_, captured)| captured.time);
    for (id, captured) in packets {
        block(&mut file, packet(id, captured, of_file))?;
    }
    for (id, recording) in (0..).zip(recordings) {
        block(&mut file, statistics(id, recording))?;
    }
    Ok(file.into_inner())
}

fn interface(recording: &Recording, of_file: LinkType) -> InterfaceDescriptionBlock<'_> {
    let mut options = vec![
        InterfaceDescriptionOption::IfName(recording.device.as_str().into()),
        InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
    ];
    if recording.link_type != of_file {
        options.push(InterfaceDescriptionOption::IfDescription(
            MADE_UP_DESCRIPTION.into(),
        ));
    }
    InterfaceDescriptionBlock {
        linktype: match of_file {
            LinkType::Ethernet => DataLink::ETHERNET,
            LinkType::Ip => DataLink::RAW,
        },
        // No limit.
        snaplen: 0,
        options,
    }
}

fn packet(interface_id: u32, captured: &Captured, of_file: LinkType) -> EnhancedPacketBlock<'_> {
    let direction = match captured.direction {
        Direction::Incoming => INBOUND,
        Direction::Outgoing => OUTBOUND,
    };
    let checksum = match captured.checksum {
        ChecksumState::Complete => 0,
        ChecksumState::NotReady => CHECKSUM_NOT_READY,
    };
    let bytes = captured.packet.bytes();
    let (data, added): (Cow<'_, [u8]>, usize) = match captured.packet.link_type() == of_file {
        true => (bytes.as_ref().into(), 0),
        false => (
            [&MADE_UP_HEADER, bytes.as_ref()].concat().into(),
            MADE_UP_HEADER.len(),
        ),
    };
    EnhancedPacketBlock {
        interface_id,
        timestamp: since_epoch(captured.time),
        original_len: u32::try_from(captured.original_length + added).unwrap_or(u32::MAX),
        data,
        options: vec![EnhancedPacketOption::Flags(direction | checksum)],
    }
}

fn statistics(interface_id: u32, recording: &Recording) -> InterfaceStatisticsBlock<'static> {
    let end = recording.packets.iter().map(|packet| packet.time).max();
    let nanoseconds = end.map_or(0, |end| since_epoch(end).as_nanos());
    let delivered = recording.packets.len() as u64;
    InterfaceStatisticsBlock {
        interface_id,
        timestamp: u64::try_from(nanoseconds).unwrap_or(u64::MAX),
        options: vec![
            InterfaceStatisticsOption::IsbFilterAccept(delivered + recording.dropped),
            InterfaceStatisticsOption::IsbOsDrop(recording.dropped),
            InterfaceStatisticsOption::IsbUsrDeliv(delivered),
        ],
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

fn block<'a, W: Write>(file: &mut PcapNgWriter<W>, block: impl PcapNgBlock<'a>) -> io::Result<()> {
    file.write_pcapng_block(block).map(drop).map_err(io_error)
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
