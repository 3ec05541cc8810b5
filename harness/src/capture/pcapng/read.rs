//! Reads capture files back: those that were written here, and those of others.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::PcapngError;
use super::blocks::{CHECKSUM_NOT_READY, GONE, OUTBOUND, io_error};
use crate::capture::{Captured, Direction, Recording};
use crate::packet::{ChecksumState, LinkType, Packet};

/// Reads a pcapng file: one recording per interface block, in their order.
///
/// The packets of a device without link header whose Ethernet headers were made up keep these.
///
/// A file that ends in the middle of a block, as after a SIGKILL, is read up to that block.
///
/// # Errors
///
/// The file cannot be read, is no pcapng, or has an interface of another link type than Ethernet
/// and raw IP.
pub fn read_pcapng(path: &Path) -> Result<Vec<Recording>, PcapngError> {
    File::open(path)
        .and_then(|file| read_pcapng_from(BufReader::new(file)))
        .map_err(|source| PcapngError::new("read", path, source))
}

/// [`read_pcapng`] from anything that can be read.
///
/// # Errors
///
/// The same.
pub fn read_pcapng_from(reader: impl Read) -> io::Result<Vec<Recording>> {
    let mut reader = PcapNgReader::new(reader).map_err(io_error)?;
    let mut recordings: Vec<Recording> = Vec::new();
    while let Some(block) = reader.next_block() {
        let block = match block.map_err(io_error) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            block => block?,
        };
        match block {
            Block::InterfaceDescription(interface) => {
                let link_type = match interface.linktype {
                    DataLink::ETHERNET => LinkType::Ethernet,
                    DataLink::RAW | DataLink::IPV4 => LinkType::Ip,
                    other => {
                        let message = format!("link type {other:?} is not decoded");
                        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
                    }
                };
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                recordings.push(Recording {
                    device: name.unwrap_or_else(|| format!("interface {}", recordings.len())),
                    link_type,
                    packets: Vec::new(),
                    dropped: 0,
                    forgotten: 0,
                    gone: false,
                });
            }
            Block::EnhancedPacket(packet) => {
                let recording = of_interface(&mut recordings, packet.interface_id)?;
                let captured = captured(&packet, recording);
                recording.packets.push(captured);
            }
            Block::InterfaceStatistics(statistics) => {
                let recording = of_interface(&mut recordings, statistics.interface_id)?;
                for option in &statistics.options {
                    match option {
                        InterfaceStatisticsOption::IsbOsDrop(dropped) => {
                            recording.dropped = *dropped;
                        }
                        // Of all that were delivered so far those that are not in the file.
                        InterfaceStatisticsOption::IsbUsrDeliv(delivered) => {
                            let here = recording.packets.len() as u64;
                            recording.forgotten = delivered.saturating_sub(here);
                        }
                        InterfaceStatisticsOption::Comment(text) if *text == GONE => {
                            recording.gone = true;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(recordings)
}

fn of_interface(recordings: &mut [Recording], id: u32) -> io::Result<&mut Recording> {
    recordings.get_mut(id as usize).ok_or_else(|| {
        let message = format!("a block belongs to interface {id}, which is not described");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn captured(block: &EnhancedPacketBlock<'_>, recording: &Recording) -> Captured {
    let flags = block.options.iter().find_map(|option| match option {
        EnhancedPacketOption::Flags(flags) => Some(*flags),
        _ => None,
    });
    let flags = flags.unwrap_or_default();
    let length = block.original_len as usize;
    let device = match recording.packets.first() {
        Some(packet) => Arc::clone(&packet.device),
        None => recording.device.as_str().into(),
    };
    Captured {
        time: SystemTime::UNIX_EPOCH + block.timestamp,
        direction: match flags & 0b11 {
            OUTBOUND => Direction::Outgoing,
            _ => Direction::Incoming,
        },
        device,
        original_length: length,
        checksum: match flags & CHECKSUM_NOT_READY {
            0 => ChecksumState::Complete,
            _ => ChecksumState::NotReady,
        },
        packet: Packet::decode_cut(recording.link_type, block.data.to_vec(), length),
    }
}
