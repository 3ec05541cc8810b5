//! An agent that is another one at its next start.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result};
use podlab::agent::{Agent, AgentError, PodlabAgent};
use podlab::process::Program;
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Node};
use podlab_scenarios::backend;

/// `podlab-agent` as it is set at the time of its start. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Switch(Arc<Mutex<PodlabAgent>>);

impl Switch {
    pub(crate) fn new(backend: &str) -> Self {
        Self(Arc::new(Mutex::new(PodlabAgent::with_encapsulation(
            backend,
        ))))
    }

    /// From the next start on.
    pub(crate) fn set(&self, agent: PodlabAgent) {
        *self.agent() = agent;
    }

    fn agent(&self) -> MutexGuard<'_, PodlabAgent> {
        self.0.lock().expect("nobody panicked")
    }
}

impl Agent for Switch {
    fn name(&self) -> &str {
        "podlab-agent"
    }

    fn program(&self, node: &str, datastore: &Path) -> Result<Program, AgentError> {
        self.agent().program(node, datastore)
    }

    fn mtu_file(&self) -> Option<&str> {
        // The same for all of them.
        Some("mtu")
    }
}

/// Boots with one backend in every node; a skip where the kernel lacks it.
pub(crate) async fn boot(spec: ClusterSpec, backend: &str) -> Result<Cluster> {
    let agent = PodlabAgent::with_encapsulation(backend);
    Ok(backend::boot(spec, agent, backend).await?)
}

/// The file that the agent of a node runs.
pub(crate) fn binary(node: &Node) -> Result<PathBuf> {
    let agent = node.agent_id().context("no agent runs")?;
    Ok(std::fs::read_link(format!("/proc/{agent}/exe"))?)
}
