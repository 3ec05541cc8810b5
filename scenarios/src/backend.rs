//! Clusters of one encapsulation, where the kernel offers it.

use podlab::agent::{Agent, AgentError};
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Error, suite};

/// With what an agent begins the sentence that says why its encapsulation does not work here.
const LACKS: &str = "podlab-agent: encapsulation: ";

/// What the kernel lacks, and why that is known.
#[derive(Debug, Clone)]
pub struct Lacking {
    /// The feature in one word, `encap-kernel`.
    pub feature: String,
    /// The agent's sentence.
    pub why: String,
}

/// Boots with an agent that was told to take the encapsulation `backend`; says what is lacking
/// when the kernel does not offer it. Where agents of a cluster differ, the feature is that of
/// the first that ended.
///
/// # Errors
/// Whatever else keeps the cluster from booting.
pub async fn try_boot(
    spec: ClusterSpec,
    agent: impl Agent + 'static,
    backend: &str,
) -> Result<Result<Cluster, Lacking>, Error> {
    // Noted before the boot: a skip, too, is one of this backend.
    suite::property("backend", backend);
    match spec.boot_with(agent).await {
        Err(Error::Agent(AgentError::Ended { log, .. })) if log.contains(LACKS) => {
            let why = log.lines().find_map(|line| line.split_once(LACKS));
            let why = why.map_or(&*log, |(_, why)| why);
            let named = why.split_once(": ").map_or(backend, |(name, _)| name);
            Ok(Err(Lacking {
                feature: format!("encap-{named}"),
                why: why.to_owned(),
            }))
        }
        booted => booted.map(Ok),
    }
}

/// [`try_boot`], and where something is lacking ends the calling test as a skip for want of it.
///
/// # Errors
/// The same.
pub async fn boot(
    spec: ClusterSpec,
    agent: impl Agent + 'static,
    backend: &str,
) -> Result<Cluster, Error> {
    match try_boot(spec, agent, backend).await? {
        Ok(cluster) => Ok(cluster),
        Err(Lacking { feature, why }) => suite::skip(&feature, why),
    }
}
