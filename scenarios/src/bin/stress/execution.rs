//! One scenario, executed once.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::Result;

/// A scenario to be executed.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) number: usize,
    pub(crate) program: PathBuf,
    pub(crate) name: String,
}

/// How an execution ended.
pub(crate) enum End {
    Passed,
    /// For want of a feature of the kernel.
    Skipped,
    /// `log` is what it printed.
    Failed {
        log: PathBuf,
    },
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.file_name().unwrap_or_default();
        let program = program.to_string_lossy();
        // Cargo appends a hash.
        let suite = program
            .rsplit_once('-')
            .map_or(&*program, |(suite, _)| suite);
        write!(f, "{suite} {}", self.name)
    }
}

impl Execution {
    /// Runs it to its end; what it prints is kept in `results` if it fails.
    pub(crate) fn run(&self, results: &Path) -> End {
        let name: String = self
            .name
            .chars()
            .map(|letter| {
                if letter.is_alphanumeric() {
                    letter
                } else {
                    '_'
                }
            })
            .collect();
        let log = results.join(format!("{:04}-{name}.log", self.number));
        let passed = match self.execute(&log) {
            Ok(status) => status.success(),
            Err(error) => {
                std::fs::write(&log, format!("{error:#}\n")).ok();
                false
            }
        };
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if !passed {
            return End::Failed { log };
        }
        std::fs::remove_file(&log).ok();
        match text.contains("... ignored") {
            true => End::Skipped,
            false => End::Passed,
        }
    }

    fn execute(&self, log: &Path) -> Result<ExitStatus> {
        let output = File::create(log)?;
        let mut command = Command::new(&self.program);
        command
            .args(["--exact", &self.name, "--nocapture"])
            // A skip is no flake, also where it is a failure otherwise.
            .env_remove("CI")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(command.status()?)
    }
}

/// What a log says of evidence that was kept.
pub(crate) fn bundles(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let told = text.lines().filter(|line| line.contains("bundle"));
    told.map(str::to_owned).collect()
}
