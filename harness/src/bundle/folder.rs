//! Where evidence goes: `target/podlab/TEST/ATTEMPT/`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Environment variable: the folder in which the folders of failed tests are made, in place of
/// `target/podlab`.
pub const FOLDER_VARIABLE: &str = "PODLAB_EVIDENCE";

/// The longest name of a test that becomes a folder's name; file systems take 255 bytes.
const NAME_MAX: usize = 200;

/// The folder of one attempt of a test. Nothing in it is ever overwritten by another attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// From 1.
    pub(super) attempt: u32,
}

impl Folder {
    /// Makes the next one for `test` below `root`. Two processes never get the same.
    pub(super) fn create(root: &Path, test: &str) -> io::Result<Self> {
        let parent = root.join(file_name(test));
        fs::create_dir_all(&parent)?;
        let mut attempt = 1;
        loop {
            let path = parent.join(attempt.to_string());
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, attempt }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Where all evidence goes.
pub(crate) fn root() -> PathBuf {
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        return PathBuf::from(folder);
    }
    let program = env::current_exe().unwrap_or_default();
    // Cargo marks its target folder, but only one that it has made itself; a program that was
    // copied away has the working folder.
    let target = program.ancestors().find(|folder| {
        folder.file_name().is_some_and(|name| name == "target")
            || folder.join("CACHEDIR.TAG").is_file()
    });
    target.unwrap_or(Path::new("target")).join("podlab")
}

/// A name of a test as that of a folder: readable, without anything that a shell, a web server or
/// an upload would take for something else, and different for different tests.
fn file_name(test: &str) -> String {
    let test = test.replace("::", ".");
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = test
        .chars()
        .map(|c| if safe(c) { c } else { '_' })
        .collect();
    let is_safe = name == test && name.len() <= NAME_MAX && !name.starts_with('.');
    match is_safe && !name.is_empty() {
        true => name,
        false => {
            let name: String = name
                .trim_start_matches('.')
                .chars()
                .take(NAME_MAX)
                .collect();
            format!("{name}-{:08x}", fnv(&test))
        }
    }
}

/// Fowler, Noll and Vo's hash, 32 bits, variant 1a: names that were made safe stay different.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_become_names_of_folders_that_differ() {
        assert_eq!(file_name("seed.ping::every_pair"), "seed.ping.every_pair");
        assert_eq!(file_name("a::case_1_x"), "a.case_1_x");
        for bad in ["", "..", "../../etc", ".hidden", "a b", "a/b", "ä"] {
            let name = file_name(bad);
            assert!(!name.starts_with('.') && !name.contains('/'), "{name}");
            assert!(name.len() > 8, "{name}");
        }
        assert_ne!(file_name("a b"), file_name("a/b"));
        let long = "x".repeat(300);
        assert_eq!(file_name(&long).len(), NAME_MAX + 9);
    }

    #[test]
    fn a_retry_gets_a_folder_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let first = Folder::create(root.path(), "a::b").unwrap();
        fs::write(first.path.join("report.html"), "first").unwrap();
        let second = Folder::create(root.path(), "a::b").unwrap();
        assert_eq!((first.attempt, second.attempt), (1, 2));
        assert_eq!(second.path, root.path().join("a.b/2"));
        assert_eq!(fs::read(first.path.join("report.html")).unwrap(), b"first");
    }
}
