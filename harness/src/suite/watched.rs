//! Runs an asynchronous test, and collects what it leaves when it fails.

use std::panic::resume_unwind;

use super::skip::Skip;
use super::test::current;
use super::{IntoOutcome, Outcome, added, panics, runtime};
use crate::bundle::scope::Scope;
use crate::bundle::{OpenScope, after_failure};

/// Drives an asynchronous test on a runtime of its own, on the calling thread; when it fails, the
/// evidence of its clusters is written before they are taken down.
///
/// # Panics
/// When the runtime cannot be built; and as a skip unwinds.
pub fn run<T: IntoOutcome>(test: impl Future<Output = T>) -> Outcome {
    let runtime = runtime();
    let scope = OpenScope(Scope::new());
    // For tasks of the test too: they run on this thread, between the polls of the test itself.
    let entered = scope.0.enter();
    let outcome = match runtime.block_on(scope.0.watch(test)) {
        Ok(value) => value.into_outcome(),
        Err(payload) if payload.is::<Skip>() => resume_unwind(payload),
        Err(payload) => Err(panics::take(&*payload)),
    };
    // What was never evaluated makes a test fail that says it has passed.
    let outcome = match (outcome, added::take()) {
        (Ok(()), Some(added)) => Err(added),
        (Err(error), Some(added)) => Err(format!("{error}\nand: {added}")),
        (outcome, None) => outcome,
    };
    let outcome = outcome.map_err(|error| {
        let name = name(&current().unwrap_or_default());
        runtime.block_on(after_failure(&scope.0, &name, error))
    });
    drop(entered);
    // While the runtime still drives what clusters are made of.
    drop(scope);
    outcome
}

/// With the suite before it: two may have tests of one name.
fn name(test: &str) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.file_stem().unwrap_or_default().to_string_lossy();
    // Cargo adds a hash of 16 digits.
    let suite = match program.rsplit_once('-') {
        Some((suite, hash)) if hash.len() == 16 => suite,
        _ => &program,
    };
    format!("{suite}::{test}")
}
