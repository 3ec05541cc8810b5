//! The error of the harness: which part failed, at what, and why.

use std::io;
use std::path::PathBuf;

use crate::agent::AgentError;
use crate::capture::{CaptureError, PcapngError};
use crate::datastore::DatastoreError;
use crate::expect::ExpectError;
use crate::fault::FaultError;
use crate::namespace::NamespaceError;
use crate::namespace::sandbox::SandboxError;
use crate::netlink::NetlinkError;
use crate::patience::PatienceError;
use crate::process::ProcessError;
use crate::spec::SpecError;
use crate::trace::TraceError;

/// Anything that can go wrong with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification cannot be booted.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The process is not in a sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A namespace could not be made or entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel refused a netlink request.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The datastore could not be written.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// An agent could not be started, or did not become ready.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A capture could not be made, or what was awaited in it did not come.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The packets on the wire are not those that were expected.
    #[error(transparent)]
    Expectation(#[from] ExpectError),
    /// A capture file could not be written.
    #[error(transparent)]
    Pcapng(#[from] PcapngError),
    /// A fault could not be put in, or not be healed.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A timeline could not be made, or shows more loss than it may.
    #[error(transparent)]
    Timeline(#[from] crate::timeline::TimelineError),
    /// A matrix could not be asked, or is not as expected.
    #[error(transparent)]
    Matrix(#[from] crate::matrix::MatrixError),
    /// The patience factor in the environment is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
    /// A probe or a server failed.
    #[error("on {machine}: {source}")]
    Probe {
        /// The machine that it was made from.
        machine: String,
        /// [`PingError`](crate::probe::icmp::PingError),
        /// [`HttpError`](crate::probe::http::HttpError) or
        /// [`ServeError`](crate::probe::server::ServeError).
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A path could not be traced.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A kernel parameter could not be set.
    #[error("set {path} on {machine}: {source}", path = .path.display())]
    Sysctl {
        /// The machine.
        machine: String,
        /// The parameter's file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the cluster's own state could not be written.
    #[error("{operation} {path}: {source}", path = .path.display())]
    State {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A handle outlived its node or pod.
    #[error(
        "{machine} was removed from the cluster\n\
         hint: one that was added again under the same name has handles of its own"
    )]
    Removed {
        /// The node or pod.
        machine: String,
    },
    /// The node has crashed, with the pods on it.
    #[error("{machine} has crashed\nhint: heal the fault, or Cluster::heal_all")]
    Crashed {
        /// The node or pod.
        machine: String,
    },
    /// A change of a running cluster failed, and so did taking it back.
    #[error("{change}; taking the change back failed too: {undo}")]
    HalfDone {
        /// Why the change failed.
        change: Box<Error>,
        /// Why it could not be taken back.
        undo: Box<Error>,
    },
    /// Something was asked for by a name that nothing has.
    #[error("there is no {kind} {name:?}\nhint: known: {known}")]
    Unknown {
        /// Node, pod or container.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
}

impl Error {
    pub(crate) fn unknown<'a>(
        kind: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        Self::Unknown {
            kind,
            name: name.to_owned(),
            known: if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            },
        }
    }
}
