//! A capture file that is written while the capture runs, and that stays small.
//!
//! Blocks are appended as a whole, a batch by one `write`, so whatever ends the process leaves a
//! file that can be read: at worst its last block is cut, when a SIGKILL comes in the middle of
//! that system call. A file that reaches its limit is replaced, by rename, by one with the newer
//! half of its packets, so there is a whole file of that name at any time. When the capture ends,
//! they are in the order of time.

mod replace;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempPath;

use super::PcapngError;
use super::blocks::{Blocks, Counts, Interface, PacketRecord};
use crate::capture::socket::Frame;

/// What is written, and how it gets to the disk.
pub(in crate::capture) struct ContinuousFile {
    file: File,
    name: Name,
    /// Encodes into memory; a batch goes from there to the file.
    blocks: Blocks<Vec<u8>>,
    /// Bytes in the file.
    length: u64,
    limit: u64,
    counts: Vec<Counts>,
    /// The statistics that the file has, to see what is new.
    told: Vec<Counts>,
    /// Where the newer half begins: the next trim keeps what follows.
    middle: Option<Middle>,
    /// Packets that wait for older ones of other taps.
    pending: Vec<Pending>,
    last: Option<SystemTime>,
    /// A packet was written after younger ones.
    disordered: bool,
}

/// Whether the file goes when the capture does.
enum Name {
    Kept(PathBuf),
    Temporary(TempPath),
}

/// A place between two blocks.
struct Middle {
    offset: u64,
    /// For each interface the packets before it.
    before: Vec<u64>,
}

struct Pending {
    interface: u32,
    frame: Frame,
    /// It was there at the last batch already.
    old: bool,
}

impl ContinuousFile {
    /// Makes the file. An old one of that name is replaced.
    pub(in crate::capture) fn create(
        path: &Path,
        interfaces: Vec<Interface>,
        limit: u64,
    ) -> Result<Self, PcapngError> {
        let make = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?;
            Self::begin(file, Name::Kept(path.to_owned()), interfaces, limit)
        };
        make().map_err(|source| PcapngError::new("write", path, source))
    }

    /// Makes a file of a name that nobody else has, `FOLDER/PREFIXrandom.pcapng`. It is removed
    /// when this value is dropped, unless [`keep`](Self::keep) was called; a SIGKILL leaves it.
    pub(in crate::capture) fn create_temporary(
        folder: &Path,
        prefix: &str,
        interfaces: Vec<Interface>,
        limit: u64,
    ) -> Result<Self, PcapngError> {
        let make = || {
            std::fs::create_dir_all(folder)?;
            let mut named = tempfile::Builder::new();
            let named = named.prefix(prefix).suffix(".pcapng").tempfile_in(folder)?;
            readable_by_all(named.as_file())?;
            let (file, path) = named.into_parts();
            Self::begin(file, Name::Temporary(path), interfaces, limit)
        };
        make().map_err(|source| PcapngError::new("write", folder, source))
    }

    fn begin(file: File, name: Name, interfaces: Vec<Interface>, limit: u64) -> io::Result<Self> {
        let count = interfaces.len();
        let mut begun = Self {
            file,
            name,
            blocks: Blocks::begin(Vec::new(), interfaces, None)?,
            length: 0,
            limit,
            counts: vec![Counts::default(); count],
            told: vec![Counts::default(); count],
            middle: None,
            pending: Vec::new(),
            last: None,
            disordered: false,
        };
        begun.write_batch()?;
        Ok(begun)
    }

    /// Where the file is.
    pub(in crate::capture) fn path(&self) -> &Path {
        match &self.name {
            Name::Kept(path) => path,
            Name::Temporary(path) => path,
        }
    }

    /// Leaves the file on the disk when the capture goes.
    pub(in crate::capture) fn keep(&mut self) {
        if let Name::Temporary(path) = &mut self.name {
            path.disable_cleanup(true);
        }
    }

    /// The temporary file, to be removed by somebody else; `None` where it stays by itself.
    pub(in crate::capture) fn hand_over(&mut self) -> Option<TempPath> {
        let kept = Name::Kept(self.path().to_owned());
        match std::mem::replace(&mut self.name, kept) {
            Name::Temporary(path) => Some(path),
            Name::Kept(_) => None,
        }
    }

    /// Takes a packet of an interface; [`flush`](Self::flush) writes it.
    pub(in crate::capture) fn push(&mut self, interface: u32, frame: Frame) {
        self.pending.push(Pending {
            interface,
            frame,
            old: false,
        });
    }

    /// How many packets of an interface were lost so far.
    pub(in crate::capture) fn lost(&mut self, interface: u32, dropped: u64) {
        if let Some(counts) = self.counts.get_mut(interface as usize) {
            counts.dropped = dropped;
        }
    }

    /// The device of an interface was removed.
    pub(in crate::capture) fn gone(&mut self, interface: u32) {
        if let Some(counts) = self.counts.get_mut(interface as usize) {
            counts.gone = true;
        }
    }

    /// There are packets that a flush may write.
    pub(in crate::capture) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what is older than `complete`, in the order of time: by then every packet from before
    /// that moment should have been pushed. One that comes later still is written after younger
    /// ones, and [`finish`](Self::finish) puts it in its place. `None` writes all that there is.
    pub(in crate::capture) fn flush(&mut self, complete: Option<SystemTime>) -> io::Result<()> {
        self.pending.sort_by_key(|pending| pending.frame.time);
        let (ready, later) = std::mem::take(&mut self.pending)
            .into_iter()
            // A clock that is set back must not keep packets waiting for more than a round.
            .partition(|p: &Pending| p.old || complete.is_none_or(|time| p.frame.time < time));
        self.pending = later;
        self.pending
            .iter_mut()
            .for_each(|pending| pending.old = true);
        for Pending {
            interface, frame, ..
        } in &ready
        {
            self.blocks.packet(*interface, &PacketRecord::from(frame))?;
            self.counts[*interface as usize].delivered += 1;
            self.disordered |= self.last > Some(frame.time);
            self.last = self.last.max(Some(frame.time));
            if self.blocks.get_mut().len() >= BATCH {
                self.write_batch()?;
            }
        }
        self.tell_losses(false)?;
        self.write_batch()?;
        match self.length > self.limit {
            true => self.trim(),
            false => Ok(()),
        }
    }

    /// Puts all packets in the order of time and writes the statistics of every interface: the end
    /// of a capture.
    pub(in crate::capture) fn finish(&mut self) -> io::Result<()> {
        self.flush(None)?;
        if std::mem::take(&mut self.disordered) {
            self.put_in_order()?;
        }
        self.tell_losses(true)?;
        self.write_batch()
    }

    /// Adds the statistics of interfaces that have lost packets since they were written last, or
    /// of all.
    fn tell_losses(&mut self, all: bool) -> io::Result<()> {
        for (id, (counts, told)) in (0..).zip(self.counts.iter().zip(&mut self.told)) {
            if all || counts.dropped != told.dropped {
                self.blocks.statistics(id, self.last, *counts)?;
                *told = *counts;
            }
        }
        Ok(())
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let batch = self.blocks.get_mut();
        if batch.is_empty() {
            return Ok(());
        }
        // Where writing ends half-way (a full disk), the next batch begins at the same place.
        self.file.seek(SeekFrom::Start(self.length))?;
        let written = self.file.write_all(batch);
        if written.is_ok() {
            self.length += batch.len() as u64;
        }
        batch.clear();
        written?;
        if self.middle.is_none() && self.length >= self.limit / 2 {
            let before = self.counts.iter().map(|c| c.delivered).collect();
            self.middle = Some(Middle {
                offset: self.length,
                before,
            });
        }
        Ok(())
    }
}

/// A batch of this many bytes is written at once, without waiting for its end.
const BATCH: usize = 1 << 18;

impl<'a> From<&'a Frame> for PacketRecord<'a> {
    fn from(frame: &'a Frame) -> Self {
        Self {
            time: frame.time,
            direction: frame.direction,
            checksum: frame.checksum,
            original_length: frame.wire_length,
            bytes: &frame.bytes,
        }
    }
}

/// Temporary files are their owner's only; a capture is for whoever looks for the failure, who
/// need not be root.
fn readable_by_all(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests;
