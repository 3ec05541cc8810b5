//! What can go wrong with a program.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use super::Program;
use crate::patience::PatienceError;

/// A program that could not be run, or did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program on this machine.
    #[error("program `{program}` was not found\nhint: {hint}")]
    Missing {
        /// Its name.
        program: String,
        /// How to get it.
        hint: String,
    },
    /// The patience factor in the environment is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
    /// A system call failed.
    #[error("{operation} `{program}` on {machine}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The machine.
        machine: String,
        /// The program with its arguments.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("`{program}` on {machine} failed: {status}\n{stderr}")]
    Failed {
        /// The machine.
        machine: String,
        /// The program with its arguments.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// It did not end in time.
    #[error("`{program}` on {machine} did not end within {timeout:?}\n{stderr}")]
    TimedOut {
        /// The machine.
        machine: String,
        /// The program with its arguments.
        program: String,
        /// How long was waited.
        timeout: Duration,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// The awaited line never came.
    #[error(
        "`{program}` on {machine} did not print the awaited line on {stream}; it printed:\n\
         {stdout}{stderr}"
    )]
    MissingLine {
        /// The machine.
        machine: String,
        /// The program with its arguments.
        program: String,
        /// Standard output or standard error.
        stream: &'static str,
        /// What it wrote to standard output.
        stdout: String,
        /// What it wrote to standard error.
        stderr: String,
    },
}

impl ProcessError {
    pub(super) fn io(
        operation: &'static str,
        machine: &str,
        program: &Program,
        source: io::Error,
    ) -> Self {
        Self::Io {
            operation,
            machine: machine.to_owned(),
            program: program.line(),
            source,
        }
    }

    pub(super) fn missing(program: &OsStr) -> Self {
        let program = program.to_string_lossy().into_owned();
        // The packages are Debian's and Ubuntu's; their names differ from the programs'.
        let hint = match program.as_str() {
            "tcpdump" | "curl" => format!("install it: apt-get install {program}"),
            "ping" => "install it: apt-get install iputils-ping".to_owned(),
            "nft" => "install it: apt-get install nftables".to_owned(),
            _ => "install it, or give its path".to_owned(),
        };
        Self::Missing { program, hint }
    }
}
