//! Programs in machines: run to the end, or kept running while a test looks at their output.

mod error;
mod freezer;
mod output;
mod reaper;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

pub use error::ProcessError;
pub(crate) use freezer::Freezer;
use output::Lines;
pub use output::Output;
pub(crate) use reaper::{kill_all_in, processes_in};

use crate::namespace::Namespaces;
use crate::patience::scaled;

/// How long a program may take to end after it was asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A program to start in a machine.
#[derive(Debug, Clone)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// A program by its name in `PATH` or by its path.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        Self {
            name: name.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let arguments = arguments.into_iter();
        self.arguments
            .extend(arguments.map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the others are inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The program and its arguments as one would type them, cut where a message would drown in
    /// them.
    pub(crate) fn line(&self) -> String {
        const LONGEST: usize = 300;
        let words = std::iter::once(&self.name).chain(&self.arguments);
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let line = words.join(" ");
        match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{} …", &line[..end]),
            None => line,
        }
    }

    /// The command that starts it in `namespaces`, with pipes or files still to be chosen.
    pub(crate) fn command(&self, namespaces: &Namespaces) -> Result<Command, ProcessError> {
        let mut command = std::process::Command::new(find(&self.name)?);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)));
        // Own output is compared and matched: it must not depend on the user's language.
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        namespaces.enter_child(&mut command);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        Ok(command)
    }

    /// Starts it in `namespaces` and collects what it prints, line by line.
    pub(crate) fn spawn(
        &self,
        machine: &str,
        namespaces: &Namespaces,
    ) -> Result<Process, ProcessError> {
        let mut command = self.command(namespaces)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| ProcessError::io("start", machine, self, source))?;
        let stdout = Lines::collect(child.stdout.take());
        let stderr = Lines::collect(child.stderr.take());
        Ok(Process {
            machine: machine.to_owned(),
            program: self.clone(),
            child,
            stdout,
            stderr,
        })
    }
}

impl From<&str> for Program {
    /// Splits at white space: `"ping -c 1 10.0.0.1"`.
    fn from(line: &str) -> Self {
        let mut words = line.split_whitespace();
        Self::new(words.next().unwrap_or_default()).args(words)
    }
}

/// A running program. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    machine: String,
    program: Program,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// Its process id in the sandbox; `None` once it was waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until a line of standard output satisfies `wanted`, and returns it.
    ///
    /// # Errors
    /// When `timeout` (scaled by the patience factor) passes or the output ends before.
    pub async fn wait_for_line(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Result<String, ProcessError> {
        let found = self.stdout.wait_for(wanted, scaled(timeout)?).await;
        found.ok_or_else(|| self.missing_line("standard output"))
    }

    /// [`wait_for_line`](Self::wait_for_line) on standard error, where many programs say that
    /// they are ready.
    ///
    /// # Errors
    /// The same.
    pub async fn wait_for_error_line(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Result<String, ProcessError> {
        let found = self.stderr.wait_for(wanted, scaled(timeout)?).await;
        found.ok_or_else(|| self.missing_line("standard error"))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the kernel refuses it, for example because the program has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let failed = |source| ProcessError::io("signal", &self.machine, &self.program, source);
        let id = self
            .child
            .id()
            .ok_or_else(|| failed(nix::errno::Errno::ESRCH.into()))?;
        kill(Pid::from_raw(id.cast_signed()), signal).map_err(|errno| failed(errno.into()))
    }

    /// Sends `signal` and waits until the program has ended and everything it printed was read.
    ///
    /// # Errors
    /// When it does not end within five seconds (scaled); it is killed then.
    pub async fn stop(mut self, signal: Signal) -> Result<Output, ProcessError> {
        // One that has ended by itself is as good.
        if self.child.try_wait().ok().flatten().is_none() {
            self.signal(signal)?;
        }
        self.wait(STOP_TIMEOUT).await
    }

    /// Waits until the program has ended and everything it printed was read.
    ///
    /// # Errors
    /// When `timeout` (scaled by the patience factor) passes before; it is killed then.
    pub async fn wait(mut self, timeout: Duration) -> Result<Output, ProcessError> {
        let timeout = scaled(timeout)?;
        let ended = async {
            let status = self.child.wait().await;
            self.stdout.end().await;
            self.stderr.end().await;
            status
        };
        match tokio::time::timeout(timeout, ended).await {
            Ok(status) => Ok(Output {
                machine: self.machine.clone(),
                program: self.program.line(),
                status: status.map_err(|source| {
                    ProcessError::io("wait for", &self.machine, &self.program, source)
                })?,
                stdout: self.stdout.text(),
                stderr: self.stderr.text(),
            }),
            Err(_) => Err(ProcessError::TimedOut {
                machine: self.machine.clone(),
                program: self.program.line(),
                timeout,
                stderr: self.stderr.text(),
            }),
        }
    }

    fn missing_line(&self, stream: &'static str) -> ProcessError {
        ProcessError::MissingLine {
            machine: self.machine.clone(),
            program: self.program.line(),
            stream,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }
}

/// Finds a program in `PATH`, or where the system keeps administrators' programs, which the
/// `PATH` of an ordinary user often lacks.
fn find(name: &OsStr) -> Result<PathBuf, ProcessError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let missing = || ProcessError::missing(name);
    let places = std::env::join_paths(places).map_err(|_| missing())?;
    which::which_in(name, Some(places), "/").map_err(|_| missing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_one_would_type_and_is_cut_where_it_is_endless() {
        assert_eq!(
            Program::from("ping  -c 1 10.0.0.1").line(),
            "ping -c 1 10.0.0.1"
        );
        let endless = Program::new("echo").arg("ä".repeat(10_000)).line();
        assert_eq!(endless.chars().count(), 302);
        assert!(endless.starts_with("echo ää") && endless.ends_with(" …"));
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = find(OsStr::new("no-such-tool")).unwrap_err().to_string();
        assert!(
            error.starts_with("program `no-such-tool` was not found\nhint: "),
            "{error}"
        );
        let ping = ProcessError::missing(OsStr::new("ping")).to_string();
        assert!(ping.ends_with("apt-get install iputils-ping"), "{ping}");
    }
}
