//! An agent that was started: its readiness, its log, its end.

use std::fs::File;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdUnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;
use tokio::process::Child;

use super::Agent;
use super::watch::Watch;
use crate::event::{EventLog, Kind};
use crate::machine::Machine;
use crate::namespace::NamespaceError;
use crate::patience::{PatienceError, scaled};
use crate::process::ProcessError;
use crate::suite;

/// Numbers the notification sockets. A name must not be used twice: a child that another thread
/// has forked and that has not reached its exec yet still holds the socket of the last agent.
static SOCKETS: AtomicU64 = AtomicU64::new(0);
/// How long an agent may take to its first full sync on an idle machine.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agent may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What an agent said when it became ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentStatus {
    /// Its human line.
    pub status: String,
    /// The encapsulation that it uses, `kernel` or `ebpf`; empty if it does not say.
    pub encapsulation: String,
    /// Why it uses that one.
    pub why: String,
}

/// Why an agent could not be started, or did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no program.
    #[error(
        "the agent was not found at {path}\n\
         hint: build it: cargo build -p podlab-dataplane (or name one in PODLAB_AGENT)",
        path = .path.display()
    )]
    NotBuilt {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The program is older than its sources.
    #[error(
        "the agent {agent} is older than its source {source_file}: a test would prove nothing\n\
         hint: build it: cargo build -p podlab-dataplane",
        agent = .agent.display(), source_file = .source_file.display()
    )]
    Stale {
        /// The program.
        agent: PathBuf,
        /// The newest file that it should contain.
        source_file: PathBuf,
    },
    /// It could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The node's namespaces could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The patience factor in the environment is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
    /// A system call failed.
    #[error("{operation} of the agent on node {node}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The node.
        node: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended before it was ready, or while it should run.
    #[error("the agent on node {node} ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// The node.
        node: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        log: String,
    },
    /// It did not become ready in time.
    #[error(
        "the agent on node {node} did not become ready within {timeout:?}; the end of its log:\n\
         {log}"
    )]
    NotReady {
        /// The node.
        node: String,
        /// How long was waited.
        timeout: Duration,
        /// Its last lines.
        log: String,
    },
    /// It did not end after SIGTERM.
    #[error("the agent on node {node} did not stop within {timeout:?} of SIGTERM and was killed")]
    NotStopped {
        /// The node.
        node: String,
        /// How long was waited.
        timeout: Duration,
    },
}

/// A started agent. It is killed when dropped.
#[derive(Debug)]
pub struct RunningAgent {
    node: String,
    child: Child,
    notifications: UnixDatagram,
    log: PathBuf,
    started: Instant,
    events: EventLog,
    watch: Watch,
}

impl RunningAgent {
    /// Starts `agent` in the node; its log goes to the end of the file `log`.
    pub(crate) fn start(
        agent: &dyn Agent,
        machine: &Machine,
        datastore: &Path,
        log: &Path,
    ) -> Result<Self, AgentError> {
        let (node, namespaces) = (machine.name(), machine.namespaces());
        let failed = |operation| {
            move |source| AgentError::Io {
                operation,
                node: node.to_owned(),
                source,
            }
        };
        // Abstract: it belongs to the node's network namespace and leaves no file.
        let name = format!("podlab-agent-{}", SOCKETS.fetch_add(1, Ordering::Relaxed));
        let notifications = namespaces
            .run(|| {
                let address = SocketAddr::from_abstract_name(&name)?;
                let socket = StdUnixDatagram::bind_addr(&address)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })?
            .and_then(UnixDatagram::from_std)
            .map_err(failed("make the notification socket"))?;
        let log_file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(failed("open the log"))?;
        let stdout = log_file.try_clone().map_err(failed("open the log"))?;
        let program = agent
            .program(node, datastore)?
            .env("NOTIFY_SOCKET", format!("@{name}"));
        let started = Instant::now();
        let child = program
            .command(&namespaces)?
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(log_file))
            .spawn()
            .map_err(failed("start"))?;
        machine.record(Kind::AgentStarted {
            pid: child.id(),
            program: program.line(),
        });
        let watch = Watch::start(child.id().unwrap_or_default(), machine);
        Ok(Self {
            node: node.to_owned(),
            child,
            notifications,
            log: log.to_owned(),
            started,
            events: machine.events().clone(),
            watch: watch.map_err(failed("watch the process"))?,
        })
    }

    /// Waits until the agent says that its first full sync is applied.
    pub(crate) async fn ready(&mut self) -> Result<AgentStatus, AgentError> {
        let outcome = self.readiness().await;
        if let Ok(status) = &outcome {
            suite::property("encapsulation", &status.encapsulation);
        }
        let kind = match &outcome {
            Ok(status) => Kind::AgentReady {
                after: self.started.elapsed(),
                status: status.status.clone(),
                encapsulation: status.encapsulation.clone(),
                why: status.why.clone(),
            },
            Err(error) => Kind::AgentFailed {
                error: error.to_string(),
            },
        };
        self.record(kind);
        outcome
    }

    async fn readiness(&mut self) -> Result<AgentStatus, AgentError> {
        let timeout = scaled(READY_TIMEOUT)?;
        let node = self.node.clone();
        let outcome = tokio::time::timeout(timeout, async {
            tokio::select! {
                // A ready agent may have ended since: what it said comes first.
                biased;
                status = ready_status(&self.notifications) => Ok(status),
                ended = self.child.wait() => Err(ended),
            }
        })
        .await;
        match outcome {
            Ok(Ok(status)) => status.map_err(|source| AgentError::Io {
                operation: "receive the readiness",
                node,
                source,
            }),
            Ok(Err(Ok(status))) => Err(AgentError::Ended {
                node,
                status,
                log: self.log_end(),
            }),
            Ok(Err(Err(source))) => Err(AgentError::Io {
                operation: "wait for the end",
                node,
                source,
            }),
            Err(_) => Err(AgentError::NotReady {
                node,
                timeout,
                log: self.log_end(),
            }),
        }
    }

    /// Its process id in the sandbox; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<(), AgentError> {
        let timeout = scaled(STOP_TIMEOUT)?;
        let node = self.node.clone();
        self.watch.end_is_expected();
        let ended_before = self.child.try_wait().ok().flatten();
        if let (None, Some(id)) = (ended_before, self.child.id()) {
            // It may end this instant; then the wait below tells how.
            kill(Pid::from_raw(id.cast_signed()), Signal::SIGTERM).ok();
        }
        match tokio::time::timeout(timeout, self.child.wait()).await {
            Ok(Ok(status)) if status.success() && ended_before.is_none() => {
                self.record(Kind::AgentStopped);
                Ok(())
            }
            Ok(Ok(status)) => Err(AgentError::Ended {
                node,
                status,
                log: self.log_end(),
            }),
            Ok(Err(source)) => Err(AgentError::Io {
                operation: "wait for the end",
                node,
                source,
            }),
            Err(_) => Err(AgentError::NotStopped { node, timeout }),
        }
    }

    /// Kills it as a crash would and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<(), AgentError> {
        self.watch.end_is_expected();
        let killed = self.child.kill().await;
        killed.map_err(|source| AgentError::Io {
            operation: "kill",
            node: self.node.clone(),
            source,
        })?;
        self.record(Kind::AgentKilled);
        Ok(())
    }

    fn record(&self, kind: Kind) {
        self.events.record_at(&self.node, kind);
    }

    /// The last lines of its log.
    fn log_end(&self) -> String {
        const LINES: usize = 20;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Receives notifications until one says that the agent is ready.
async fn ready_status(socket: &UnixDatagram) -> io::Result<AgentStatus> {
    // One datagram of the protocol is small; a longer one is cut and so not understood.
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let message = String::from_utf8_lossy(&buffer[..length]);
        if let Some(status) = parse_ready(&message) {
            return Ok(status);
        }
    }
}

fn parse_ready(message: &str) -> Option<AgentStatus> {
    let value = |key: &str| {
        let line = message
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned)
    };
    (value("READY")? == "1").then(|| AgentStatus {
        status: value("STATUS").unwrap_or_default(),
        encapsulation: value("X_ENCAP").unwrap_or_default(),
        why: value("X_ENCAP_WHY").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_said_by_one_line_and_the_rest_is_optional() {
        let full = "READY=1\nSTATUS=5 routes\nX_ENCAP=ebpf\nX_ENCAP_WHY=kernel: no ipip";
        let status = parse_ready(full).unwrap();
        assert_eq!(status.status, "5 routes");
        assert_eq!(status.encapsulation, "ebpf");
        assert_eq!(status.why, "kernel: no ipip");
        assert_eq!(parse_ready("READY=1"), Some(AgentStatus::default()));
    }

    #[test]
    fn anything_else_is_not_ready() {
        for message in ["", "STATUS=READY=1", "READY=0", "STOPPING=1", "READY"] {
            assert_eq!(parse_ready(message), None, "{message}");
        }
    }
}
