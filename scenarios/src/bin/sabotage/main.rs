//! Breaks clusters in every way that is known, and shows who noticed and what the trace said.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use podlab_scenarios::program;
use podlab_scenarios::sabotage::{self, Row, Summary, examine};
use serde::Serialize;

/// Tests the harness against broken networks; the table goes to target/podlab/sabotage.json.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these sabotages; `none` is the network that nobody has broken.
    names: Vec<String>,
    /// Only this encapsulation.
    #[arg(long)]
    backend: Option<String>,
    /// Print every trace, and why each check failed.
    #[arg(long)]
    verbose: bool,
    /// Print the document about all of them instead, with what the last run has measured.
    #[arg(long)]
    document: bool,
    /// Where the table goes.
    #[arg(long, default_value = "target/podlab/sabotage.json")]
    output: PathBuf,
}

const BACKENDS: [&str; 3] = ["kernel", "ebpf", "userspace"];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.document {
        return match measured(&arguments) {
            Ok(rows) => {
                print!("{}", sabotage::document(&rows));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("sabotage: {error:#}\nhint: run make sabotage first");
                ExitCode::FAILURE
            }
        };
    }
    program::run("sabotage", run(&arguments))
}

/// Where all columns of the table go.
fn all_columns(arguments: &Arguments) -> PathBuf {
    arguments.output.with_extension("measured.json")
}

fn measured(arguments: &Arguments) -> Result<Vec<Row>> {
    let path = all_columns(arguments);
    let read = || anyhow::Ok(serde_json::from_slice(&std::fs::read(&path)?)?);
    read().with_context(|| format!("read {}", path.display()))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut rows = Vec::new();
    for backend in BACKENDS {
        if arguments
            .backend
            .as_deref()
            .is_some_and(|only| only != backend)
        {
            continue;
        }
        let all = sabotage::all();
        let all = std::iter::once(None).chain(all.iter().map(Some));
        for sabotage in all {
            let name = sabotage.map_or("none", |sabotage| sabotage.name);
            if !arguments.names.is_empty() && !arguments.names.iter().any(|only| only == name) {
                continue;
            }
            let examined = examine(sabotage, backend).await;
            let examined = match examined.with_context(|| format!("{name}, {backend}"))? {
                Ok(examined) => examined,
                Err(lacking) => {
                    println!("  {backend} is skipped: {}", lacking.why);
                    break;
                }
            };
            print!("{}", sabotage::table(std::slice::from_ref(&examined.row)));
            if arguments.verbose || !examined.row.good {
                println!("\n{}\n", examined.trace);
                for (check, why) in &examined.failures {
                    println!("  {check}: {why}");
                }
                println!();
            }
            rows.push(examined.row);
        }
    }
    let summaries: Vec<Summary<'_>> = rows.iter().map(Row::summary).collect();
    save(&summaries, &arguments.output)?;
    save(&rows, &all_columns(arguments))?;
    let bad: Vec<&str> = rows
        .iter()
        .filter(|row| !row.good)
        .map(|row| row.sabotage.as_str())
        .collect();
    ensure!(!rows.is_empty(), "nothing was examined");
    ensure!(
        bad.is_empty(),
        "not caught, or not named rightly: {}",
        bad.join(", ")
    );
    Ok(())
}

fn save(rows: &impl Serialize, path: &Path) -> Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(rows)?)
    };
    write().with_context(|| format!("write {}", path.display()))
}
