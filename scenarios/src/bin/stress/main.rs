//! Runs scenarios again and again, in a random order and many at a time, each in a process and a
//! sandbox of its own, and counts the executions that failed. `make stress` runs 1,000.

mod execution;
mod plan;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use execution::{End, Execution};
use plan::Plan;

/// Executes scenarios in a random order and in parallel, and counts those that fail.
#[derive(Debug, Parser)]
struct Arguments {
    /// The test programs.
    #[arg(required = true)]
    programs: Vec<PathBuf>,
    /// How many executions; a scenario that is skipped here does not count.
    #[arg(long, default_value_t = 1000)]
    executions: usize,
    /// Repeats an order; random by default, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How many at a time; four for each core by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    name: String,
    /// Where the output of failed executions goes.
    #[arg(long, default_value = "target/stress")]
    results: PathBuf,
}

/// What has come of the executions so far.
#[derive(Default)]
struct Tally {
    done: usize,
    skipped: usize,
    failed: Vec<(Execution, PathBuf)>,
}

fn main() -> ExitCode {
    match stress(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stress: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether none failed.
fn stress(arguments: &Arguments) -> Result<bool> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = arguments.seed.unwrap_or(now.as_secs());
    let cores = thread::available_parallelism().context("count the cores")?;
    let jobs = arguments.jobs.unwrap_or(4 * cores.get());
    let plan = Plan::new(&arguments.programs, &arguments.name, seed)?;
    std::fs::create_dir_all(&arguments.results).context("make the folder for results")?;
    println!(
        "{} executions of {} scenarios, {jobs} at a time, --seed {seed}",
        arguments.executions,
        plan.scenarios()
    );
    let (plan, tally) = (Mutex::new(plan), Mutex::new(Tally::default()));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(arguments, &plan, &tally));
        }
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        tally.done >= arguments.executions,
        "only {} of {} could be executed, {} were skipped",
        tally.done,
        arguments.executions,
        tally.skipped
    );
    Ok(report(&tally, start.elapsed()))
}

fn work(arguments: &Arguments, plan: &Mutex<Plan>, tally: &Mutex<Tally>) {
    loop {
        let next = locked(plan).next(arguments.executions);
        let Some(execution) = next else { return };
        let end = execution.run(&arguments.results);
        if matches!(end, End::Skipped) {
            locked(plan).skip(&execution);
            locked(tally).skipped += 1;
            continue;
        }
        let mut tally = locked(tally);
        tally.done += 1;
        if let End::Failed { log } = end {
            println!("failed: {execution}: {}", log.display());
            tally.failed.push((execution, log));
        }
        if tally.done.is_multiple_of(50) {
            println!("{} done, {} failed", tally.done, tally.failed.len());
        }
    }
}

fn report(tally: &Tally, time: Duration) -> bool {
    println!(
        "{} executions in {time:.0?}: {} flakes ({} skips, not counted)",
        tally.done,
        tally.failed.len(),
        tally.skipped
    );
    for (execution, log) in &tally.failed {
        println!("  {execution}: {}", log.display());
        for line in execution::bundles(log) {
            println!("    {line}");
        }
    }
    tally.failed.is_empty()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind it is whole between any two calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
