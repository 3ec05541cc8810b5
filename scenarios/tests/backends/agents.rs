//! Agents whose encapsulation depends on the node.

use std::path::Path;

use podlab::agent::{Agent, AgentError, PodlabAgent};
use podlab::process::Program;

/// `podlab-agent` with one backend on the named node and another everywhere else.
#[derive(Debug)]
pub(crate) struct Mixed {
    node: &'static str,
    there: &'static str,
    elsewhere: &'static str,
}

impl Mixed {
    pub(crate) fn new(node: &'static str, there: &'static str, elsewhere: &'static str) -> Self {
        Self {
            node,
            there,
            elsewhere,
        }
    }
}

impl Agent for Mixed {
    fn name(&self) -> &str {
        "podlab-agent"
    }

    fn program(&self, node: &str, datastore: &Path) -> Result<Program, AgentError> {
        let backend = if node == self.node {
            self.there
        } else {
            self.elsewhere
        };
        PodlabAgent::with_encapsulation(backend).program(node, datastore)
    }
}
