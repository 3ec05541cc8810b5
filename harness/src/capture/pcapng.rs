//! Recordings as pcapng files, for Wireshark, tshark and `tcpdump -r`.
//!
//! Format: draft-ietf-opsawg-pcapng. One section, an interface block per recording with the name
//! of the tap, all packets in the order of their time, a statistics block per recording.
//!
//! libpcap, and so `tcpdump -r`, reads no file whose interfaces differ in their link type. Where
//! devices with and without link header come together, the packets of the latter get an Ethernet
//! header with zero addresses, as Linux shows its loopback device, and the interface's description
//! says so.

mod blocks;
mod continuous;
mod order;
mod read;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Captured, Recording};
use blocks::{Blocks, Counts, PacketRecord};

pub(super) use blocks::Interface;
pub(super) use continuous::ContinuousFile;
pub use read::{read_pcapng, read_pcapng_from};

/// A capture file could not be written or read.
#[derive(Debug, Error)]
#[error("cannot {operation} the capture file {path}: {source}")]
pub struct PcapngError {
    /// What was tried: `write`, `read`.
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

impl PcapngError {
    pub(super) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

/// Writes recordings into one new file; an old one of that name is replaced.
///
/// # Errors
///
/// The file cannot be made or written.
pub fn save_pcapng(path: &Path, recordings: &[Recording]) -> Result<(), PcapngError> {
    File::create(path)
        .and_then(|file| write_pcapng(BufWriter::new(file), recordings)?.flush())
        .map_err(|source| PcapngError::new("write", path, source))
}

/// Writes recordings as one pcapng section, and gives the writer back.
///
/// # Errors
///
/// The writer cannot be written to.
pub fn write_pcapng<W: Write>(writer: W, recordings: &[Recording]) -> io::Result<W> {
    let taps = recordings
        .iter()
        .map(|recording| (recording.device.as_str().into(), recording.link_type));
    let mut file = Blocks::begin(writer, taps.collect(), None)?;
    let mut packets: Vec<(u32, &Captured)> = (0..)
        .zip(recordings)
        .flat_map(|(id, recording)| recording.packets.iter().map(move |packet| (id, packet)))
        .collect();
    packets.sort_by_key(|(_, captured)| captured.time);
    for (id, captured) in packets {
        file.packet(id, &PacketRecord::from(captured))?;
    }
    for (id, recording) in (0..).zip(recordings) {
        let end = recording.packets.iter().map(|packet| packet.time).max();
        let counts = Counts {
            delivered: recording.packets.len() as u64 + recording.forgotten,
            dropped: recording.dropped,
            trimmed: recording.forgotten,
            gone: recording.gone,
        };
        file.statistics(id, end, counts)?;
    }
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests;
