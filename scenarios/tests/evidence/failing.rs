//! Runs of the program `failing`, started as a user starts a suite, and what they leave.

use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// Runs of the program whose evidence goes to one folder.
pub(crate) struct Failing {
    pub(crate) root: TempDir,
}

/// One attempt at a test, and what it left.
pub(crate) struct Attempt {
    /// What a user reads.
    pub(crate) text: String,
    pub(crate) folder: PathBuf,
    pub(crate) bundle: Value,
    pub(crate) report: String,
}

impl Failing {
    pub(crate) fn new() -> Result<Self> {
        let root = crate::shared_folder()?;
        Ok(Self { root })
    }

    pub(crate) fn command(&self, test: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_failing"));
        command
            .args([test, "--exact", "--color=never"])
            .env("PODLAB_EVIDENCE", self.root.path())
            .env("RUST_BACKTRACE", "0")
            .env_remove("CI")
            .env_remove("PODLAB_KEEP")
            // Its failures are meant, and none of the run that it is a part of.
            .env_remove("PODLAB_JUNIT")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) fn folder(&self, test: &str, attempt: u32) -> PathBuf {
        let root = self.root.path();
        // As everywhere, the folder has dots where the test's name has colons.
        root.join(format!("failing.{}/{attempt}", test.replace("::", ".")))
    }

    pub(crate) async fn run(&self, test: &str) -> Result<Output> {
        Ok(self.command(test).output().await?)
    }

    /// Runs a test that must fail and leave evidence.
    pub(crate) async fn fail(&self, test: &str, attempt: u32) -> Result<Attempt> {
        let output = self.run(test).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.code() == Some(101),
            "{test} ended with {output:?}"
        );
        let folder = self.folder(test, attempt);
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("{}; {text}", path.display()))
        };
        Ok(Attempt {
            bundle: serde_json::from_str(&read("bundle.json")?)?,
            report: read("report.html")?,
            text,
            folder,
        })
    }

    /// The folders of tests that left something.
    pub(crate) fn left(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.root.path())?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

impl Attempt {
    pub(crate) fn machine(&self, name: &str) -> Result<&Value> {
        let machines = self.bundle["clusters"][0]["machines"].as_array();
        let mut machines = machines.context("no machines")?.iter();
        let found = machines.find(|machine| machine["name"] == name);
        found.with_context(|| format!("no machine {name} in the bundle"))
    }
}

pub(crate) fn diagnosis(attempt: &Attempt) -> Result<&str> {
    let trace = &attempt.bundle["clusters"][0]["pair"]["trace"]["value"];
    trace["diagnosis"].as_str().context("no diagnosis")
}
