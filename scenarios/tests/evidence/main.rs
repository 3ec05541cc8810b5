//! What the harness tells of a run: events, packets, matrices, traces, and what it leaves when a
//! test fails.

mod agreement;
mod asked_again;
mod bundle;
mod captures;
mod content;
mod events;
mod expectations;
mod failing;
mod fragments;
mod keep;
mod lost;
mod matrix;
mod report;
mod timeline;
mod trace;
mod vxlan;

/// A folder that programs see, too, which are started here and enter a sandbox of their own: the
/// one for temporary files belongs to our sandbox alone.
fn shared_folder() -> std::io::Result<tempfile::TempDir> {
    let folder = env!("CARGO_TARGET_TMPDIR");
    std::fs::create_dir_all(folder)?;
    tempfile::tempdir_in(folder)
}

podlab::suite!();
