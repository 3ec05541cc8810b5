//! The file that tells whoever wires pods which MTU to give them (Calico's `/var/lib/calico/mtu`):
//! the number in decimal digits, and a line break.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file could not be brought up to date.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the MTU file {}", path.display())]
pub(crate) struct MtuFileError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What the file at `path` says; `None` when there is none, or it says something else.
pub(crate) fn read(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Makes the file at `path` say `mtu`, with the folders to it. Readers see the old number or the
/// new one. Returns whether it was written.
pub(crate) fn write(path: &Path, mtu: u32) -> Result<bool, MtuFileError> {
    if read(path) == Some(mtu) {
        return Ok(false);
    }
    let failed = |operation| {
        let path = path.to_owned();
        move |source| MtuFileError {
            operation,
            path,
            source,
        }
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, format!("{mtu}\n")).map_err(failed("write"))?;
    fs::rename(&new, path).map_err(failed("put in place"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_when_it_says_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib/calico/mtu");
        assert_eq!(read(&path), None);
        assert!(write(&path, 1480).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "1480\n");
        assert!(!write(&path, 1480).unwrap());
        assert!(write(&path, 1380).unwrap());
        assert_eq!(read(&path), Some(1380));
        fs::write(&path, "no number").unwrap();
        assert!(write(&path, 1380).unwrap());
        let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "nothing half-made stays");
    }

    #[test]
    fn a_path_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = write(&file.join("mtu"), 1480).unwrap_err();
        let text = crate::report::line(&error);
        assert!(
            text.contains("make the folder of the MTU file") && text.contains("file/mtu"),
            "{text}"
        );
    }
}
