//! Putting another file in the place of one that is written: a smaller one, or one in order.
//!
//! The other one is made beside it and renamed, so that there is a whole one at any time.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::{ContinuousFile, readable_by_all};
use crate::capture::pcapng::blocks::{Blocks, Counts};
use crate::capture::pcapng::order;

impl ContinuousFile {
    /// Replaces the file by one without the older half.
    pub(super) fn trim(&mut self) -> io::Result<()> {
        let Some(middle) = self.middle.take() else {
            return Ok(());
        };
        for (counts, before) in self.counts.iter_mut().zip(&middle.before) {
            counts.trimmed = *before;
        }
        // They may have been in the older half.
        self.told.fill(Counts::default());
        let trimmed: u64 = middle.before.iter().sum();
        let comment = format!("{trimmed} older packets were removed to keep this file small");
        let mut next = self.successor()?;
        let interfaces = self.blocks.interfaces().to_vec();
        let mut head = Blocks::begin(Vec::new(), interfaces, Some(comment))?;
        // Also for whoever reads a file that a SIGKILL has ended.
        for (id, counts) in (0..).zip(&self.counts) {
            let delivered = counts.trimmed;
            head.statistics(
                id,
                self.last,
                Counts {
                    delivered,
                    ..*counts
                },
            )?;
        }
        let head = head.into_inner();
        next.write_all(&head)?;
        self.file.seek(SeekFrom::Start(middle.offset))?;
        let kept = self.length - middle.offset;
        io::copy(&mut (&self.file).take(kept), next.as_file_mut())?;
        self.file = next.persist(self.path())?;
        self.length = head.len() as u64 + kept;
        Ok(())
    }

    /// Replaces the file by one in the order of time.
    pub(super) fn put_in_order(&mut self) -> io::Result<()> {
        let mut next = self.successor()?;
        self.file.seek(SeekFrom::Start(0))?;
        let parts = order::by_time(BufReader::new((&self.file).take(self.length)))?;
        let mut length = 0;
        for part in parts {
            self.file.seek(SeekFrom::Start(part.start))?;
            let mut part = (&self.file).take(part.end - part.start);
            length += io::copy(&mut part, next.as_file_mut())?;
        }
        self.file = next.persist(self.path())?;
        self.length = length;
        // Neither has a place in it any more.
        self.middle = None;
        self.told.fill(Counts::default());
        Ok(())
    }

    /// A file beside this one, to take its place by rename.
    fn successor(&self) -> io::Result<NamedTempFile> {
        let folder = self.path().parent().unwrap_or(Path::new("."));
        let next = NamedTempFile::new_in(folder)?;
        readable_by_all(next.as_file())?;
        Ok(next)
    }
}
