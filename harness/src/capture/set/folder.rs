//! Where captures go that were given no path: `target/podlab/captures/`.

use std::path::{Path, PathBuf};

use crate::suite;

/// The folder, and what a file's name begins with: the test that runs.
pub(super) fn default_place() -> (PathBuf, String) {
    let name = suite::current().map_or_else(
        || "capture-".to_owned(),
        |test| format!("{}-", test.replace("::", ".")),
    );
    (target().join("podlab/captures"), name)
}

/// Cargo's folder that we were built into: it marks it. A program that was installed elsewhere
/// takes `target` where it is started.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let found = own.ancestors().skip(1).find(marked);
    found.map_or_else(|| PathBuf::from("target"), Path::to_owned)
}
