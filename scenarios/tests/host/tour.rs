//! `seed-tour` as a process that can be watched from outside.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use super::footprint::{Footprint, Host};

const TOUR: &str = env!("CARGO_BIN_EXE_seed-tour");

/// A running `seed-tour` that waits for a line.
pub(crate) struct Tour {
    child: Child,
    marker: String,
}

impl Tour {
    /// Starts it and waits until its cluster is up.
    pub(crate) fn start(host: &Host, arguments: &[&str]) -> Result<Self> {
        let marker = host.new_marker();
        let mut child = Command::new(TOUR)
            .args(arguments)
            .current_dir(host.home())
            .env("HOME", host.home())
            .env("TMPDIR", host.home())
            .env(Host::MARKER, &marker)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start seed-tour")?;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().context("no standard output")?;
        // The pipe must stay unread behind the line: read it byte by byte.
        BufReader::with_capacity(1, stdout).read_line(&mut line)?;
        if line != "paused\n" {
            let end = child.wait_with_output()?;
            bail!(
                "seed-tour: {}\n{line}{}",
                end.status,
                String::from_utf8_lossy(&end.stderr)
            );
        }
        Ok(Self { child, marker })
    }

    /// Every process and namespace of the run.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint::of(&self.marker)
    }

    /// Lets it go on and end.
    pub(crate) fn finish(mut self) -> Result<ExitStatus> {
        self.child
            .stdin
            .take()
            .context("no standard input")?
            .write_all(b"\n")?;
        // Reads the rest of the output, which is small, so that it never blocks.
        Ok(self.child.wait_with_output()?.status)
    }

    /// Kills the process that was started, and nothing else. What is left of the run still waits
    /// for its line, as long as the returned pipe is open.
    pub(crate) fn kill(mut self) -> Result<(ExitStatus, ChildStdin)> {
        let pipe = self.child.stdin.take().context("no standard input")?;
        self.child.kill()?;
        Ok((self.child.wait()?, pipe))
    }
}
