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

/// Whether there is such a folder.
pub(super) fn is_wanted() -> bool {
    env::var_os(ARCHIVE_VARIABLE).is_some_and(|folder| !folder.is_empty())
}

/// Writes recordings that have packets. A folder that cannot be written is told on standard
/// error: the test that runs is about something else.
pub(super) fn put(recordings: &[Recording]) {
    let Some(folder) = env::var_os(ARCHIVE_VARIABLE).filter(|folder| !folder.is_empty()) else {
        return;
    };
    if recordings
        .iter()
        .any(|recording| !recording.packets.is_empty())
        && let Err(error) = write(Path::new(&folder), recordings)
    {
        eprintln!("podlab: {ARCHIVE_VARIABLE}: {error}");
    }
}

/// Keeps a copy of a capture file.
pub(super) fn put_file(file: &Path) {
    let Some(folder) = env::var_os(ARCHIVE_VARIABLE).filter(|folder| !folder.is_empty()) else {
        return;
    };
    let copy = || {
        let path = name_in(Path::new(&folder))?;
        let copied = std::fs::copy(file, &path);
        copied.map_err(|source| PcapngError::new("copy", file, source))
    };
    if let Err(error) = copy() {
        eprintln!("podlab: {ARCHIVE_VARIABLE}: {error}");
    }
}

fn write(folder: &Path, recordings: &[Recording]) -> Result<(), PcapngError> {
    save_pcapng(&name_in(folder)?, recordings)
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
