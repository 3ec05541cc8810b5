//! Clusters as far as they go without an agent: what the harness promises by itself.
#![cfg(feature = "netns")]

use std::path::Path;

use podlab::agent::{Agent, AgentError};
use podlab::process::Program;
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Error};

podlab::sandbox!();

/// A program that is no agent.
#[derive(Debug)]
struct Script(&'static str);

impl Agent for Script {
    fn name(&self) -> &str {
        "script"
    }

    fn program(&self, _node: &str, _datastore: &Path) -> Result<Program, AgentError> {
        Ok(Program::new("sh").args(["-c", self.0]))
    }
}

fn spec() -> ClusterSpec {
    Cluster::builder()
        .node("n1", |n| n.address("10.0.0.2/24").block("192.168.1.0/24"))
        .pod("web", |p| p.on("n1").address("192.168.1.2"))
}

/// If this fails, an agent that dies at start leaves the user without its last words.
#[tokio::test]
async fn an_agent_that_ends_fails_the_boot_with_its_log() {
    let script = Script("echo the cause >&2; exit 7");
    let error = spec().boot_with(script).await.unwrap_err();
    assert!(
        matches!(error, Error::Agent(AgentError::Ended { .. })),
        "{error}"
    );
    let text = error.to_string();
    for part in ["node n1", "exit status: 7", "the cause"] {
        assert!(text.contains(part), "{text}");
    }
}
