//! Benchmarks: each figure with a reference that was taken in the same run, and their ratio.
//!
//! `make bench` runs all of them, `make bench NAME=repair` those whose name contains the word. A
//! figure that is compared with a goal and does not reach it fails the run, at its end.

mod boot;
mod capture;
mod conntrack;
mod matrix;
mod memory;
mod repair;
mod results;
mod routes;
mod sandbox;
mod stream;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use podlab_scenarios::program;

use results::Results;

/// Runs the benchmarks and prints each figure beside its reference.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run only the benchmarks whose name contains this.
    #[arg(default_value = "")]
    name: String,
    /// The file that gets all figures as JSON.
    #[arg(long, default_value = "target/bench/results.json")]
    results: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut results = Results::default();
    // Before this process enters one itself.
    if sandbox::NAME.contains(&arguments.name)
        && let Err(error) = sandbox::run(&mut results)
    {
        eprintln!("podlab-bench: {}: {error:#}", sandbox::NAME);
        return ExitCode::FAILURE;
    }
    program::run("podlab-bench", benchmarks(&arguments, results))
}

async fn benchmarks(arguments: &Arguments, mut results: Results) -> Result<()> {
    let wanted = |name: &str| name.contains(&arguments.name);
    if wanted(boot::NAME) {
        boot::run(&mut results).await.context(boot::NAME)?;
    }
    if wanted(capture::NAME) {
        capture::run(&mut results).await.context(capture::NAME)?;
    }
    if wanted(conntrack::NAME) {
        conntrack::run(&mut results)
            .await
            .context(conntrack::NAME)?;
    }
    if wanted(matrix::NAME) {
        matrix::run(&mut results).await.context(matrix::NAME)?;
    }
    if wanted(memory::NAME) {
        memory::run(&mut results).await.context(memory::NAME)?;
    }
    if wanted(repair::NAME) {
        repair::run(&mut results).await.context(repair::NAME)?;
    }
    if wanted(routes::NAME) {
        routes::run(&mut results).await.context(routes::NAME)?;
    }
    if wanted(stream::NAME) {
        stream::run(&mut results).await.context(stream::NAME)?;
    }
    let known = [
        boot::NAME,
        capture::NAME,
        conntrack::NAME,
        matrix::NAME,
        memory::NAME,
        repair::NAME,
        routes::NAME,
        sandbox::NAME,
        stream::NAME,
    ]
    .join(", ");
    ensure!(
        !results.is_empty(),
        "no benchmark is named so\nhint: known: {known}"
    );
    results.save(&arguments.results, !arguments.name.is_empty())?;
    results.reached()
}
