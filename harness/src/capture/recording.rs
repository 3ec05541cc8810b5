//! What a capture yields.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::Losses;
use crate::packet::{ChecksumState, ChecksumVerdict, LinkType, Packet};

/// Which way a packet passed the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The device delivered it to its network namespace.
    Incoming,
    /// The network namespace sent it through the device.
    Outgoing,
}

/// A captured packet. Cheap to clone. Prints as time, tap, direction and tcpdump's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When the kernel saw it, in nanoseconds of the wall clock; without a [`TimeStamps`] the
    /// first packets may carry the time at which they were read.
    ///
    /// [`TimeStamps`]: super::TimeStamps
    pub time: SystemTime,
    /// Which way it went.
    pub direction: Direction,
    /// Name of the capture, `node/device`.
    pub device: Arc<str>,
    /// Its length in bytes before anything was cut off.
    pub original_length: usize,
    /// Whether the transport checksum was left to the hardware.
    pub checksum: ChecksumState,
    /// The decoded packet.
    pub packet: Packet,
}

impl Captured {
    /// [`Packet::canonical_inner`] with what the tap said about the checksum: equal for the same
    /// inner packet at every tap of its path.
    #[must_use]
    pub fn canonical_inner(&self) -> Option<Vec<u8>> {
        self.packet.canonical_inner(self.checksum)
    }

    /// [`Packet::transport_checksum`] with what the tap said about the checksum.
    #[must_use]
    pub fn transport_checksum(&self) -> Option<ChecksumVerdict> {
        self.packet.transport_checksum(self.checksum)
    }
}

/// Everything that a finished capture saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Name of the capture, `node/device`.
    pub device: String,
    /// What the packets begin with.
    pub link_type: LinkType,
    /// The packets in the order in which the kernel saw them.
    pub packets: Vec<Captured>,
    /// Packets that passed the filter and were lost, because they came faster than they were read.
    pub dropped: u64,
    /// Older packets that were captured and are not here any more: they had to make room, in memory
    /// or in the file.
    pub forgotten: u64,
    /// The device was removed while it was captured. What passed one of its name later is not here.
    pub gone: bool,
}

impl Recording {
    /// What is missing.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses {
            dropped: self.dropped,
            forgotten: self.forgotten,
            gone: self.gone,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Incoming => "in",
            Direction::Outgoing => "out",
        })
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self
            .time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let (seconds, nanoseconds) = (time.as_secs(), time.subsec_nanos());
        let Captured {
            device,
            direction,
            packet,
            ..
        } = self;
        write!(
            f,
            "{seconds}.{nanoseconds:09} {device} {direction}: {packet}"
        )
    }
}
