//! What the programs of this crate have in common: they work in a sandbox and fail in one way.

use std::process::ExitCode;

use anyhow::{Context, Result};

/// Enters the sandbox, runs `work` on a runtime of two threads, and tells a failure on standard
/// error: exit code 0 or 1.
pub fn run(name: &str, work: impl Future<Output = Result<()>>) -> ExitCode {
    match in_sandbox(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The innermost cause comes last, and with it the hint.
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn in_sandbox(work: impl Future<Output = Result<()>>) -> Result<()> {
    // Before the runtime: its threads would stay behind in the host's namespaces.
    podlab::sandbox::enter()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("build the runtime")?
        .block_on(work)
}
