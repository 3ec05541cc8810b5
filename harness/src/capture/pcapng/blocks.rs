//! The blocks that a capture file consists of.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

use crate::capture::{Captured, Direction};
use crate::packet::{ChecksumState, LinkType};

/// `if_tsresol`: time stamps count units of 10^-9 seconds, which is what pcap-file writes.
const NANOSECONDS: u8 = 9;

/// What stands before an IPv4 packet of a device without link header, where others have one.
pub(super) const MADE_UP_HEADER: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0];
pub(super) const MADE_UP_DESCRIPTION: &str =
    "has no link header; the Ethernet headers here are made up";

/// Bits of `epb_flags`.
pub(super) const INBOUND: u32 = 1;
pub(super) const OUTBOUND: u32 = 2;
pub(super) const CHECKSUM_NOT_READY: u32 = 1 << 9;

/// The name of a tap, and what its packets begin with.
pub(in crate::capture) type Interface = (Arc<str>, LinkType);

/// Writes blocks: first the section header and one block per interface, then what it is told.
pub(super) struct Blocks<W: Write> {
    writer: PcapNgWriter<W>,
    interfaces: Vec<Interface>,
    of_file: LinkType,
}

/// A packet as a block needs it.
#[derive(Clone, Copy)]
pub(super) struct PacketRecord<'a> {
    pub(super) time: SystemTime,
    pub(super) direction: Direction,
    pub(super) checksum: ChecksumState,
    pub(super) original_length: usize,
    pub(super) bytes: &'a [u8],
}

/// What the statistics of an interface tell, as numbers of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Read by us.
    pub(super) delivered: u64,
    /// Lost, because they were not read fast enough.
    pub(super) dropped: u64,
    /// Read, written, and removed from the file again to keep it small.
    pub(super) trimmed: u64,
    /// The device was removed.
    pub(super) gone: bool,
}

/// What the statistics of a device say that was removed.
pub(super) const GONE: &str = "the device was removed while it was captured";

impl<W: Write> Blocks<W> {
    /// Begins a file. `comment` is what its section has to say of itself.
    pub(super) fn begin(
        writer: W,
        interfaces: Vec<Interface>,
        comment: Option<String>,
    ) -> io::Result<Self> {
        let comment = comment.map(|text| SectionHeaderOption::Comment(text.into()));
        let section = SectionHeaderBlock {
            // pcap-file writes the time of a statistics block as one number where the format has
            // two halves, the high one first: right with this order of bytes only.
            endianness: Endianness::Big,
            options: comment.into_iter().collect(),
            ..Default::default()
        };
        let ethernet = |(_, link): &Interface| *link == LinkType::Ethernet;
        let of_file = match interfaces.iter().any(ethernet) {
            true => LinkType::Ethernet,
            false => LinkType::Ip,
        };
        let writer = PcapNgWriter::with_section_header(writer, section).map_err(io_error)?;
        let mut blocks = Self {
            writer,
            interfaces,
            of_file,
        };
        for index in 0..blocks.interfaces.len() {
            let interface = blocks.interface(index);
            blocks.write(interface)?;
        }
        Ok(blocks)
    }

    pub(super) fn into_inner(self) -> W {
        self.writer.into_inner()
    }

    pub(super) fn get_mut(&mut self) -> &mut W {
        self.writer.get_mut()
    }

    pub(super) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    fn interface(&self, index: usize) -> InterfaceDescriptionBlock<'static> {
        let (name, link_type) = &self.interfaces[index];
        let mut options = vec![
            InterfaceDescriptionOption::IfName(name.to_string().into()),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        if *link_type != self.of_file {
            options.push(InterfaceDescriptionOption::IfDescription(
                MADE_UP_DESCRIPTION.into(),
            ));
        }
        InterfaceDescriptionBlock {
            linktype: match self.of_file {
                LinkType::Ethernet => DataLink::ETHERNET,
                LinkType::Ip => DataLink::RAW,
            },
            // No limit.
            snaplen: 0,
            options,
        }
    }

    /// Adds a packet of an interface.
    pub(super) fn packet(&mut self, id: u32, packet: &PacketRecord<'_>) -> io::Result<()> {
        let direction = match packet.direction {
            Direction::Incoming => INBOUND,
            Direction::Outgoing => OUTBOUND,
        };
        let checksum = match packet.checksum {
            ChecksumState::Complete => 0,
            ChecksumState::NotReady => CHECKSUM_NOT_READY,
        };
        let same = self
            .interfaces
            .get(id as usize)
            .is_some_and(|(_, link)| *link == self.of_file);
        let (data, added): (Cow<'_, [u8]>, usize) = match same {
            true => (packet.bytes.into(), 0),
            false => (
                [&MADE_UP_HEADER, packet.bytes].concat().into(),
                MADE_UP_HEADER.len(),
            ),
        };
        self.write(EnhancedPacketBlock {
            interface_id: id,
            timestamp: since_epoch(packet.time),
            original_len: u32::try_from(packet.original_length + added).unwrap_or(u32::MAX),
            data,
            options: vec![EnhancedPacketOption::Flags(direction | checksum)],
        })
    }

    /// Adds the statistics of an interface, as they were at `time`.
    pub(super) fn statistics(
        &mut self,
        id: u32,
        time: Option<SystemTime>,
        counts: Counts,
    ) -> io::Result<()> {
        let nanoseconds = time.map_or(0, |time| since_epoch(time).as_nanos());
        let mut options = vec![
            InterfaceStatisticsOption::IsbFilterAccept(counts.delivered + counts.dropped),
            InterfaceStatisticsOption::IsbOsDrop(counts.dropped),
            InterfaceStatisticsOption::IsbUsrDeliv(counts.delivered),
        ];
        if counts.trimmed > 0 {
            let comment = format!("{} older packets are not in this file", counts.trimmed);
            options.push(InterfaceStatisticsOption::Comment(comment.into()));
        }
        if counts.gone {
            options.push(InterfaceStatisticsOption::Comment(GONE.into()));
        }
        self.write(InterfaceStatisticsBlock {
            interface_id: id,
            timestamp: u64::try_from(nanoseconds).unwrap_or(u64::MAX),
            options,
        })
    }

    fn write<'a>(&mut self, block: impl PcapNgBlock<'a>) -> io::Result<()> {
        let written = self.writer.write_pcapng_block(block);
        written.map(drop).map_err(io_error)
    }
}

impl<'a> From<&'a Captured> for PacketRecord<'a> {
    fn from(captured: &'a Captured) -> Self {
        Self {
            time: captured.time,
            direction: captured.direction,
            checksum: captured.checksum,
            original_length: captured.original_length,
            bytes: captured.packet.bytes(),
        }
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

pub(super) fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
