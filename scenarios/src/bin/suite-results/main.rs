//! What suites have left in JUnit files, for people.
//!
//! `matrix` makes one table of several runs, each on another kernel: it writes `matrix.json` and
//! `matrix.md` and prints the latter. `failures` tells in short what failed in runs, and `annotate`
//! tells GitHub; what failed of unit tests they take from what libtest has printed.

mod annotation;
mod failure;
mod libtest;
mod outcome;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use failure::Failure;
use outcome::Outcome;
use quick_junit::Report;

#[derive(Parser)]
enum Command {
    /// kernel × backend × scenario. Exit code 101 when a test has failed anywhere.
    Matrix {
        /// The folder for matrix.json and matrix.md.
        #[arg(long)]
        out: PathBuf,
        /// The name of a kernel and the folder with the JUnit files of its run.
        #[arg(required = true, value_name = "KERNEL=FOLDER", value_parser = run)]
        runs: Vec<(String, PathBuf)>,
    },
    /// Each failed test with the beginning of what it has said.
    Failures {
        /// Folders with JUnit files (one that does not exist has none), and files that cargo's
        /// output was written to: unit tests leave no JUnit.
        places: Vec<PathBuf>,
    },
    /// An annotation for each failed test.
    Annotate {
        /// The same places.
        places: Vec<PathBuf>,
    },
}

fn run(text: &str) -> Result<(String, PathBuf), String> {
    let (kernel, folder) = text
        .split_once('=')
        .ok_or("not of the form KERNEL=FOLDER")?;
    Ok((kernel.to_owned(), folder.into()))
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Matrix { out, runs } => matrix(&out, &runs),
        Command::Failures { places } => tell(&places, Failure::in_short),
        Command::Annotate { places } => tell(&places, annotation::error),
    };
    done.unwrap_or_else(|error| {
        eprintln!("suite-results: {error:#}");
        ExitCode::FAILURE
    })
}

fn matrix(out: &Path, runs: &[(String, PathBuf)]) -> Result<ExitCode> {
    let mut outcomes = Vec::new();
    for (kernel, folder) in runs {
        let reports = reports(folder)?;
        if reports.is_empty() {
            bail!("{}: no JUnit file of {kernel}", folder.display());
        }
        outcomes.extend(outcome::collect(kernel, &reports));
    }
    let kernels: Vec<&str> = runs.iter().map(|(kernel, _)| &**kernel).collect();
    let table = table::markdown(&kernels, &outcomes);
    let json = serde_json::to_string_pretty(&outcomes)?;
    for (name, content) in [("matrix.json", &json), ("matrix.md", &table)] {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    print!("{table}");
    let failed = |outcome: &Outcome| outcome.failed > 0;
    Ok(match outcomes.iter().any(failed) {
        true => ExitCode::from(101),
        false => ExitCode::SUCCESS,
    })
}

/// Prints every failure that the places know of.
fn tell(places: &[PathBuf], format: impl Fn(&Failure) -> String) -> Result<ExitCode> {
    for place in places {
        let failures: Vec<Failure> = if place.is_dir() {
            reports(place)?
                .iter()
                .flat_map(failure::of_report)
                .collect()
        } else if place.is_file() {
            let log = fs::read(place).with_context(|| format!("read {}", place.display()))?;
            libtest::failures(&String::from_utf8_lossy(&log))
        } else {
            Vec::new()
        };
        print!("{}", failures.iter().map(&format).collect::<String>());
    }
    Ok(ExitCode::SUCCESS)
}

fn reports(folder: &Path) -> Result<Vec<Report>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
    paths.sort();
    let report = |path: &PathBuf| {
        let text = fs::read_to_string(path)?;
        anyhow::Ok(Report::deserialize_from_str(&text)?)
    };
    paths
        .iter()
        .map(|path| report(path).with_context(|| format!("read {}", path.display())))
        .collect()
}
