//! Why the agent ends, and with which exit code.

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;

use crate::report;

/// An end that nobody asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

/// It ran and could not go on.
const RUNTIME: u8 = 1;
/// The command line or the datastore is not right.
const BAD_INPUT: u8 = 2;
/// The kernel lacks a feature or the agent a privilege.
const MISSING: u8 = 3;

impl Failure {
    pub(crate) fn runtime(error: impl Error) -> Self {
        let hint = "the log above tells what came before; the network is left as it is";
        Self::new(RUNTIME, &error, hint)
    }

    pub(crate) fn bad_input(error: impl Error) -> Self {
        Self::new(
            BAD_INPUT,
            &error,
            "`podlab-agent run --help` tells what is expected",
        )
    }

    pub(crate) fn missing(error: impl Error) -> Self {
        Self::new(
            MISSING,
            &error,
            "`podlab-agent doctor` shows what this kernel offers",
        )
    }

    /// The kernel refused for lack of privileges.
    pub(crate) fn refused(errors: &BTreeSet<String>) -> Self {
        let errors: Vec<_> = errors.iter().map(String::as_str).collect();
        let text = format!(
            "kernel: {}\nhint: run as root, with a writable /proc/sys; `podlab-agent doctor` \
             shows what is missing",
            errors.join("\n  ")
        );
        Self {
            code: MISSING,
            text,
        }
    }

    /// Not all of it could be done.
    pub(crate) fn incomplete(errors: &[String]) -> Self {
        let text = format!(
            "kernel: {}\nhint: what is not named here is done; try again",
            errors.join("\n  ")
        );
        Self {
            code: RUNTIME,
            text,
        }
    }

    pub(crate) fn command_line(why: &str) -> Self {
        let text = format!("command line: {why}\nhint: `podlab-agent --help` tells what there is");
        Self {
            code: BAD_INPUT,
            text,
        }
    }

    fn new(code: u8, error: &dyn Error, hint: &str) -> Self {
        let mut text = report::lines(error);
        if !text.contains("\nhint: ") {
            text = format!("{text}\nhint: {hint}");
        }
        Self { code, text }
    }

    /// Says it on the log, for logs that a program reads.
    pub(crate) fn log(&self) -> ExitCode {
        tracing::error!("{}", self.text);
        ExitCode::from(self.code)
    }

    /// Says it on stderr.
    pub(crate) fn print(&self) -> ExitCode {
        eprintln!("podlab-agent: {}", self.text);
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_ends_with_one_hint() {
        let plain = Failure::missing(std::io::Error::other("it is not there"));
        assert_eq!(plain.code, 3);
        assert!(
            plain
                .text
                .starts_with("it is not there\nhint: `podlab-agent doctor`"),
            "{}",
            plain.text
        );

        #[derive(Debug, thiserror::Error)]
        #[error("it is wrong\nhint: mend it")]
        struct Hinted;
        let hinted = Failure::bad_input(Hinted);
        assert_eq!(
            (hinted.code, hinted.text.as_str()),
            (2, "it is wrong\nhint: mend it")
        );
    }
}
