//! Clusters of one encapsulation, where the kernel offers it.

use podlab::agent::{Agent, AgentError};
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Error};

/// Boots with an agent that was told to take the encapsulation `backend`; `None`, after saying so,
/// when the kernel does not offer it. Where `CI` is set only `kernel` may be missing.
///
/// # Errors
/// Whatever else keeps the cluster from booting.
pub async fn boot(
    spec: ClusterSpec,
    agent: impl Agent + 'static,
    backend: &str,
) -> Result<Option<Cluster>, Error> {
    let optional = backend == "kernel" || std::env::var_os("CI").is_none();
    match spec.boot_with(agent).await {
        Ok(cluster) => Ok(Some(cluster)),
        Err(Error::Agent(AgentError::Ended { log, .. }))
            if optional && log.contains("podlab-agent: encapsulation: ") =>
        {
            eprintln!("skipped: {log}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
