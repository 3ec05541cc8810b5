//! The results of several runs of the suite, each on another kernel, as one table.
//!
//! Reads the JUnit files of every run, writes `matrix.json` and `matrix.md`, and prints the
//! latter. Fails when a test has failed anywhere.

mod outcome;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use outcome::Outcome;
use quick_junit::Report;

#[derive(Parser)]
struct Arguments {
    /// The folder for matrix.json and matrix.md.
    #[arg(long, default_value = "target/vm")]
    out: PathBuf,
    /// The name of a kernel and the folder with the JUnit files of its run.
    #[arg(required = true, value_name = "KERNEL=FOLDER", value_parser = run)]
    runs: Vec<(String, PathBuf)>,
}

fn run(text: &str) -> Result<(String, PathBuf), String> {
    let (kernel, folder) = text
        .split_once('=')
        .ok_or("not of the form KERNEL=FOLDER")?;
    Ok((kernel.to_owned(), folder.into()))
}

fn main() -> ExitCode {
    match matrix(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(101),
        Err(error) => {
            eprintln!("kernel-matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing has failed.
fn matrix(arguments: &Arguments) -> Result<bool> {
    let mut outcomes = Vec::new();
    for (kernel, folder) in &arguments.runs {
        let reports = reports(folder)?;
        if reports.is_empty() {
            bail!("{}: no JUnit file of {kernel}", folder.display());
        }
        outcomes.extend(outcome::collect(kernel, &reports));
    }
    let kernels: Vec<&str> = arguments.runs.iter().map(|(kernel, _)| &**kernel).collect();
    let table = table::markdown(&kernels, &outcomes);
    let json = serde_json::to_string_pretty(&outcomes)?;
    for (name, content) in [("matrix.json", &json), ("matrix.md", &table)] {
        let path = arguments.out.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    print!("{table}");
    Ok(outcomes.iter().all(|outcome: &Outcome| outcome.failed == 0))
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
