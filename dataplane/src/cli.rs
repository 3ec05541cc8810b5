//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::agent::{self, Options};
use crate::doctor;
use crate::encap::Choice;
use crate::failure::Failure;
use crate::ops::listen::Listen;
use crate::ops::{cleanup, status};

/// Programs Calico's IPIP mode into the kernel of one node, from a directory of JSON files.
///
/// Exit codes: 0 stopped by a signal or done, 1 runtime failure or (of status) something differs,
/// 2 bad input, 3 missing kernel feature or privilege.
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
        /// How log lines look.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
        /// Where /metrics, /livez and /readyz are served over HTTP: ADDRESS:PORT or unix:PATH.
        #[arg(long, value_name = "PLACE")]
        serve: Option<Listen>,
        /// Where to write the MTU for pods that are wired from now on, as /var/lib/calico/mtu is.
        #[arg(long, value_name = "FILE")]
        mtu_file: Option<PathBuf>,
        /// How often everything is compared although the kernel reported no change.
        #[arg(long, value_name = "SECONDS", value_parser = interval, default_value = "90")]
        resync: Duration,
        /// For how long unknown routes on a new cali* interface are left alone: whoever wires
        /// the pod may be ahead of the datastore.
        #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
        route_grace: Duration,
    },
    /// Prints desired against actual state; changes nothing. Exit code 1 when they differ.
    Status {
        /// Directory with pools/, nodes/ and endpoints/.
        #[arg(long, value_name = "DIR")]
        datastore: PathBuf,
        /// Name of this node in the datastore.
        #[arg(long, value_name = "NAME")]
        node: String,
        /// The backend whose objects are to be there; auto takes the one at work here.
        #[arg(long, value_enum, default_value_t = Choice::Auto)]
        encap: Choice,
        /// Compares also what this file says with the MTU for pods (see run).
        #[arg(long, value_name = "FILE")]
        mtu_file: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Removes what agents have made on this node, and nothing else. Stop the agent first.
    ///
    /// Removed are routes of protocol 80, permanent neighbours on cali*, tunl0, our tc filters
    /// and the nftables table podlab. Sysctls and the pods' interfaces stay.
    Cleanup {
        /// Only prints what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Prints what this kernel offers and which backend `auto` would take; changes nothing.
    Doctor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// One line of text for each event.
    Text,
    /// One JSON object for each event, on a line.
    Json,
}

/// Seconds as 90 or 0.5.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .parse()
        .ok()
        .filter(|seconds: &f64| *seconds <= MAX_SECONDS);
    let duration = number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration
        .ok_or_else(|| format!("write a number of seconds from 0 to {MAX_SECONDS}, like 90 or 0.5"))
}

/// The same, but not so short that there is no time for anything else.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = seconds(text)?;
    if interval < Duration::from_millis(100) {
        return Err("write at least 0.1".to_owned());
    }
    Ok(interval)
}

/// A day: what is longer is a slip.
const MAX_SECONDS: f64 = 86_400.0;

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
            log_format,
            serve,
            mtu_file,
            resync,
            route_grace,
        } => {
            start_logging(log, log_format);
            let outcome = run(Options {
                datastore,
                node,
                encap,
                serve,
                mtu_file,
                resync,
                route_grace,
            });
            match outcome {
                // Whoever parses the log parses the last line, too.
                Err(failure) if log_format == LogFormat::Json => return failure.log(),
                outcome => outcome.map(|()| ExitCode::SUCCESS),
            }
        }
        Command::Status {
            datastore,
            node,
            encap,
            mtu_file,
            json,
        } => status::print(&datastore, &node, encap, mtu_file.as_deref(), json),
        Command::Cleanup { dry_run } => cleanup::run(dry_run),
        Command::Doctor => return doctor::print(),
    };
    outcome.unwrap_or_else(|failure| failure.print())
}

fn run(options: Options) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)?
        .block_on(agent::run(options))
}

fn start_logging(filter: Targets, format: LogFormat) {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    let lines = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
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
