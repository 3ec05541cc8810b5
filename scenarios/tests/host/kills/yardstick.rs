//! How long the kernel's grace period is while a run is taken down.
//!
//! Before the kernel frees a packet socket it waits until no processor can be using it any more; for
//! a tap, which has a ring beside it, it does so twice. That is a grace period of RCU each time: some
//! ten milliseconds, more where processors are busy. The sockets of a process are closed one after
//! the other by its last thread, so that a run with many taps takes that much time to be gone, and
//! nothing of ours can hurry it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How many grace periods a tap takes.
pub(super) const FOR_A_TAP: u32 = 2;
/// What one may take on a machine that is not busy: with it the twenty taps of an ordinary run need
/// half a second.
const USUAL: Duration = Duration::from_micros(12_500);

/// A program that goes through one grace period after the other.
pub(super) struct Yardstick {
    program: Child,
    output: BufReader<ChildStdout>,
}

impl Yardstick {
    /// Begins to measure.
    pub(super) fn new() -> Result<Self> {
        let mut program = Command::new(env!("CARGO_BIN_EXE_grace-period"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start grace-period")?;
        let output = program.stdout.take().context("no standard output")?;
        let mut yardstick = Self {
            program,
            output: BufReader::new(output),
        };
        let line = yardstick.line()?;
        ensure!(line == "ready", "grace-period: {line:?}");
        Ok(yardstick)
    }

    /// How long one was since it began that was met at a random instant.
    pub(super) fn grace_period(mut self) -> Result<Duration> {
        drop(self.program.stdin.take());
        let line = self.line()?;
        let length = line.parse().with_context(|| format!("{line:?}"))?;
        self.program.wait()?;
        Ok(Duration::from_micros(length))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

/// How many times as long as usual everything may take, 1 at least: whatever the patience factor
/// says, other tests and programs make the grace periods of the whole machine longer.
pub(super) fn busy(grace_period: Duration) -> f64 {
    grace_period.div_duration_f64(USUAL).max(1.0)
}
