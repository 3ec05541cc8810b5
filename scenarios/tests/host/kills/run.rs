//! A run that can be killed in many ways.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::footprint::{Footprint, Host};

/// Who is killed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Victim {
    /// The process that was started.
    Supervisor,
    /// Process 1 of the sandbox.
    Init,
    /// The process in which the tests run.
    Worker,
    /// Who started the run.
    Parent,
    /// Everybody in the run's process group, as by Ctrl-C in a terminal.
    Group,
}

pub(super) const ENDS: [(Victim, Signal); 7] = [
    (Victim::Supervisor, Signal::SIGKILL),
    (Victim::Worker, Signal::SIGKILL),
    (Victim::Init, Signal::SIGKILL),
    (Victim::Parent, Signal::SIGKILL),
    (Victim::Supervisor, Signal::SIGINT),
    (Victim::Supervisor, Signal::SIGTERM),
    (Victim::Group, Signal::SIGINT),
];

/// A run below a shell that waits for it.
pub(super) struct Run {
    shell: Child,
    output: BufReader<ChildStdout>,
    marker: String,
}

impl Run {
    pub(super) fn start(host: &Host, program: &Path, arguments: &[&str]) -> Result<Self> {
        let marker = host.new_marker();
        // The run has a process group of its own, so whoever interrupts the tests does not reach it:
        // it ends with them because its parent does.
        let mut shell = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh"])
            // With a second command the shell cannot become the first. Who runs these tests in the
            // background has perhaps passed on that SIGINT is ignored.
            .args(["-c", "env --default-signal=INT \"$@\"; exit $?", "sh"])
            .arg(program)
            .args(arguments)
            .current_dir(host.home())
            .env("HOME", host.home())
            .env("TMPDIR", host.home())
            .env("RUST_BACKTRACE", "0")
            .env(Host::MARKER, &marker)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("start a shell")?;
        let output = shell.stdout.take().context("no standard output")?;
        Ok(Self {
            shell,
            output: BufReader::new(output),
            marker,
        })
    }

    /// By what its processes are known.
    pub(super) fn marker(&self) -> &str {
        &self.marker
    }

    /// What it has on the host now.
    pub(super) fn footprint(&self) -> Footprint {
        Footprint::of(&self.marker)
    }

    /// Waits for the crowd to say how many taps it has: from then on it is all there.
    pub(super) fn taps(&mut self) -> Result<u32> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let count = line
            .strip_prefix("ready, ")
            .and_then(|rest| rest.strip_suffix(" taps\n"));
        let count = count.and_then(|count| count.parse().ok());
        count.with_context(|| format!("{line:?} says nothing of taps"))
    }

    /// Sends a signal, and returns when. A victim that is not born yet is replaced by the one that
    /// would have borne it; only the parent's death is put off until there is an init: before that,
    /// nobody can tell it from a parent that went away long ago.
    pub(super) fn end(&self, victim: Victim, signal: Signal) -> Result<Instant> {
        let shell = self.shell.id();
        if let Victim::Group = victim {
            let group = Pid::from_raw(shell.cast_signed());
            let now = Instant::now();
            killpg(group, signal).context("send a signal to the group")?;
            return Ok(now);
        }
        let supervisor = child_of(shell);
        let init = || supervisor.and_then(child_of);
        let chosen = match victim {
            Victim::Parent => {
                while child_of(shell).is_some_and(|id| child_of(id).is_none()) {
                    std::thread::yield_now();
                }
                Some(shell)
            }
            Victim::Supervisor => supervisor,
            Victim::Init => init().or(supervisor),
            Victim::Group => unreachable!("sent above"),
            Victim::Worker => init().and_then(child_of).or_else(init).or(supervisor),
        };
        let now = Instant::now();
        // A run that has ended by itself has been killed by nobody.
        match kill(Pid::from_raw(chosen.unwrap_or(shell).cast_signed()), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(now),
            Err(errno) => Err(errno).context("send a signal"),
        }
    }

    /// Ends what is left of it, which would be in the way of the next, and returns what it has said
    /// on standard error.
    pub(super) fn clear(mut self) -> Result<String> {
        self.shell.kill().ok();
        let output = self.shell.wait_with_output()?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The first child of a process, if it has one.
fn child_of(process: u32) -> Option<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(path).ok()?;
    children.split(' ').next()?.parse().ok()
}
