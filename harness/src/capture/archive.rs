//! Keeping every capture of a run: for whoever wants to look at all of them, or have another
//! program read them.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use super::{PcapngError, Recording, save_pcapng};
use crate::suite;

/// Environment variable: a folder into which every capture is written as a pcapng file when it
/// ends, named after the test that made it.
pub const ARCHIVE_VARIABLE: &str = "PODLAB_CAPTURES";

fn folder() -> Option<PathBuf> {
    let folder = env::var_os(ARCHIVE_VARIABLE).filter(|folder| !folder.is_empty());
    folder.map(PathBuf::from)
}

/// Whether there is such a folder.
pub(super) fn is_wanted() -> bool {
    folder().is_some()
}

/// Writes recordings that have packets.
pub(super) fn put(recordings: &[Recording]) {
    let mut all = recordings.iter();
    if all.any(|recording| !recording.packets.is_empty()) {
        keep(|path| save_pcapng(path, recordings));
    }
}

/// Keeps a copy of a capture file.
pub(super) fn put_file(file: &Path) {
    keep(|path| {
        let copied = std::fs::copy(file, path).map(drop);
        copied.map_err(|source| PcapngError::new("copy", file, source))
    });
}

/// Has a new file of the folder written, where there is one. What fails is told on standard error:
/// the test that runs is about something else.
fn keep(write: impl FnOnce(&Path) -> Result<(), PcapngError>) {
    let Some(folder) = folder() else {
        return;
    };
    if let Err(error) = name_in(&folder).and_then(|path| write(&path)) {
        eprintln!("podlab: {ARCHIVE_VARIABLE}: {error}");
    }
}

/// A new file in the folder.
fn name_in(folder: &Path) -> Result<PathBuf, PcapngError> {
    let test = suite::current().unwrap_or_else(|| "capture".to_owned());
    let prefix = format!("{}-", test.replace("::", "."));
    let named = || -> io::Result<_> {
        std::fs::create_dir_all(folder)?;
        let mut named = tempfile::Builder::new();
        let named = named
            .prefix(&prefix)
            .suffix(".pcapng")
            .tempfile_in(folder)?;
        Ok(named.into_temp_path().keep()?)
    };
    named().map_err(|source| PcapngError::new("write", folder, source))
}
