//! Keeping every capture of a run: for whoever wants to look at all of them, or have another
//! program read them.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

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
    if let Err(error) = keep_in(&folder, write) {
        eprintln!("podlab: {ARCHIVE_VARIABLE}: {error}");
    }
}

fn keep_in(
    folder: &Path,
    write: impl FnOnce(&Path) -> Result<(), PcapngError>,
) -> Result<(), PcapngError> {
    let file = unfinished_in(folder)?;
    write(&file)?;
    // It has its name when it is whole: whoever writes it may be killed at any time.
    let whole = file.with_extension("pcapng");
    let renamed = file.persist(&whole);
    renamed.map_err(|error| PcapngError::new("write", &whole, error.error))
}

/// A new file in the folder, for something that is not whole yet. It goes when it is dropped.
fn unfinished_in(folder: &Path) -> Result<TempPath, PcapngError> {
    let test = suite::current().unwrap_or_else(|| "capture".to_owned());
    let prefix = format!("{}-", test.replace("::", "."));
    let named = || -> io::Result<_> {
        std::fs::create_dir_all(folder)?;
        let mut named = tempfile::Builder::new();
        let named = named.prefix(&prefix).suffix(".part").tempfile_in(folder)?;
        Ok(named.into_temp_path())
    };
    named().map_err(|source| PcapngError::new("write", folder, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let count = |extension: &str| {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            let paths = entries.map(|entry| entry.unwrap().path());
            paths
                .filter(|path| path.extension().is_some_and(|is| is == extension))
                .count()
        };
        let kept = keep_in(folder.path(), |file| {
            assert_eq!((count("pcapng"), count("part")), (0, 1));
            std::fs::write(file, "whole").unwrap();
            Ok(())
        });
        assert!(kept.is_ok());
        assert_eq!((count("pcapng"), count("part")), (1, 0));
        let failed = keep_in(folder.path(), |file| {
            Err(PcapngError::new("write", file, io::ErrorKind::Other.into()))
        });
        assert!(failed.is_err());
        assert_eq!((count("pcapng"), count("part")), (1, 0));
    }
}
