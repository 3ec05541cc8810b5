//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::agent::{self, Options};
use crate::doctor;
use crate::encap::Choice;
use crate::failure::Failure;

/// Programs Calico's IPIP mode into the kernel of one node, from a directory of JSON files.
///
/// Exit codes: 0 stopped by a signal, 1 runtime failure, 2 bad input, 3 missing kernel feature
/// or privilege.
#[derive(Parser)]
#[command(name = "podlab-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process has one command line")]
enum Command {
    /// Runs until SIGTERM or SIGINT; the network stays as it is then.
    ///
    /// Where NOTIFY_SOCKET is set (sd_notify), says READY=1 once the first full sync is applied.
    Run {
        /// Directory with pools/, nodes/ and endpoints/, and perhaps config.json.
        #[arg(long, value_name = "DIR")]
        datastore: PathBuf,
        /// Name of this node in the datastore.
        #[arg(long, value_name = "NAME")]
        node: String,
        /// How packets are put into IPIP; auto takes the first that works.
        #[arg(long, value_enum, default_value_t = Choice::Auto)]
        encap: Choice,
        /// What is logged to stderr: a level, or a filter such as warn,podlab_dataplane=debug.
        #[arg(long, value_name = "FILTER", default_value = "info")]
        log: Targets,
    },
    /// Prints what this kernel offers and which backend `auto` would take; changes nothing.
    Doctor,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let outcome = match cli.command {
        Command::Run {
            datastore,
            node,
            encap,
            log,
        } => {
            start_logging(log);
            run(Options {
                datastore,
                node,
                encap,
            })
        }
        Command::Doctor => return doctor::print(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(),
    }
}

fn run(options: Options) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)?
        .block_on(agent::run(options))
}

fn start_logging(filter: Targets) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
}

/// Help and version are no failures; anything else is told in the agent's own form.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::command_line("it names nothing to do").print();
    }
    let text = error.to_string();
    let what: Vec<&str> = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    let what = what.join(" ");
    Failure::command_line(what.strip_prefix("error: ").unwrap_or(&what)).print()
}
