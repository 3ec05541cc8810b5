//! Clusters of one encapsulation, where the kernel offers it.

use podlab::agent::{Agent, AgentError};
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Error, suite};

/// With what an agent begins the sentence that says why its encapsulation does not work here.
const LACKS: &str = "podlab-agent: encapsulation: ";

/// Boots with an agent that was told to take the encapsulation `backend`; ends the calling test as
/// a skip, for want of the feature `encap-NAME`, when the kernel does not offer it. Where agents
/// of a cluster differ, NAME is that of the first that ended.
///
/// # Errors
/// Whatever else keeps the cluster from booting.
pub async fn boot(
    spec: ClusterSpec,
    agent: impl Agent + 'static,
    backend: &str,
) -> Result<Cluster, Error> {
    // Noted before the boot: a skip, too, is one of this backend.
    suite::property("backend", backend);
    match spec.boot_with(agent).await {
        Err(Error::Agent(AgentError::Ended { log, .. })) if log.contains(LACKS) => {
            let why = log.lines().find_map(|line| line.split_once(LACKS));
            let why = why.map_or(&*log, |(_, why)| why);
            let named = why.split_once(": ").map_or(backend, |(name, _)| name);
            suite::skip(&format!("encap-{named}"), why)
        }
        booted => booted,
    }
}
