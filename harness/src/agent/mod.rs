//! The agent contract: what the harness expects of the program that makes pods reachable.
//!
//! An agent is started in every node with the path of the cluster's datastore and the node's
//! name. It makes the pods reachable, says when it is ready, survives being killed and started
//! again, and stops on SIGTERM without tearing the network down.
//!
//! *Ready* means that the first full sync is applied in the kernel. It is said in systemd's
//! `sd_notify` protocol: a datagram with the line `READY=1` to the unix socket named by
//! `NOTIFY_SOCKET` (an abstract one, so it starts with `@`). Two more lines are understood:
//! `X_ENCAP=name` and `X_ENCAP_WHY=text` say which encapsulation was chosen and why.
//!
//! An agent may tell whoever wires pods which MTU to give them, see [`Agent::mtu_file`].
//!
//! Invariant: the harness starts agents, it never links one. Another agent takes the place of
//! ours by implementing [`Agent`].

mod locate;
mod running;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};

pub use running::{AgentError, AgentStatus, RunningAgent};

use crate::process::Program;

/// A program that fulfils the contract.
pub trait Agent: fmt::Debug + Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// How to start it on `node` with the cluster's datastore at `datastore`.
    ///
    /// # Errors
    /// [`AgentError::NotBuilt`] when there is nothing to start.
    fn program(&self, node: &str, datastore: &Path) -> Result<Program, AgentError>;

    /// The device through which a node sends what is to be encapsulated: a
    /// [trace](crate::Cluster::trace) looks for the packets there.
    fn tunnel_device(&self) -> &str {
        "tunl0"
    }

    /// How to ask it on `node` what it wants and what the kernel has, for the report of a failed
    /// test; it is to change nothing. `None` when it has no such command.
    fn status_program(&self, _node: &str, _datastore: &Path) -> Option<Program> {
        None
    }

    /// The name of the file in [`FOLDER`] in which it keeps the MTU of pods that are wired from
    /// now on, in decimal digits, as Calico's agent does in `/var/lib/calico/mtu`. Without it, or
    /// while there is no such file, pods are wired with the MTU of their pool or underlay.
    fn mtu_file(&self) -> Option<&str> {
        None
    }
}

/// A folder that every node has for what its agent tells others on the node.
pub const FOLDER: &str = "/run/podlab/agent";

const MTU_FILE: &str = "mtu";

/// `podlab-agent`, the agent of this project.
#[derive(Debug, Clone, Default)]
pub struct PodlabAgent {
    binary: Option<PathBuf>,
    encapsulation: Option<String>,
    arguments: Vec<String>,
}

impl PodlabAgent {
    /// Our agent with the encapsulation that it finds best (`--encap auto`).
    pub fn new() -> Self {
        Self::default()
    }

    /// Our agent with one encapsulation: `kernel`, `ebpf` or `userspace`.
    pub fn with_encapsulation(encapsulation: impl Into<String>) -> Self {
        Self {
            encapsulation: Some(encapsulation.into()),
            ..Self::default()
        }
    }

    /// Another build of it: the program at this path.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// With more arguments for `podlab-agent run`.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }
}

impl PodlabAgent {
    /// What `run` and `status` have in common.
    fn command(&self, command: &str, node: &str, datastore: &Path) -> Result<Program, AgentError> {
        let binary = match &self.binary {
            Some(path) => path.clone(),
            None => locate::podlab_agent()?,
        };
        Ok(Program::new(binary)
            .arg(command)
            .arg("--datastore")
            .arg(datastore)
            .args(["--node", node])
            .args(["--encap", self.encapsulation.as_deref().unwrap_or("auto")])
            .arg("--mtu-file")
            .arg(Path::new(FOLDER).join(MTU_FILE)))
    }
}

impl Agent for PodlabAgent {
    fn name(&self) -> &str {
        "podlab-agent"
    }

    fn program(&self, node: &str, datastore: &Path) -> Result<Program, AgentError> {
        let program = self.command("run", node, datastore)?;
        Ok(program.args(&self.arguments))
    }

    fn status_program(&self, node: &str, datastore: &Path) -> Option<Program> {
        self.command("status", node, datastore).ok()
    }

    fn mtu_file(&self) -> Option<&str> {
        Some(MTU_FILE)
    }
}
