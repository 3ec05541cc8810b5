//! The cluster that is broken, and the parts its pods and nodes play.

use anyhow::{Context, Result};
use podlab::agent::PodlabAgent;
use podlab::process::Program;
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Error, Machine, Node, Pod};

use super::freeze::Frozen;
use crate::backend::{Lacking, try_boot};
use crate::seed::{DEMO, DEMO_W2, MASTER, TEST_TOOLS, WORKER_1, WORKER_2, spec};

/// A running cluster with names for who does what.
#[derive(Debug)]
pub struct World {
    /// The seed document's cluster.
    pub cluster: Cluster,
    /// The encapsulation of every agent.
    pub backend: String,
    /// The pod that sends.
    pub from: Pod,
    /// The pod that answers, on another node.
    pub to: Pod,
    /// A neighbour of the sender, on its node.
    pub beside: Pod,
    /// The sender's node.
    pub near: Node,
    /// The other pod's node.
    pub far: Node,
    /// A node that has nothing to do with the two.
    pub third: Node,
}

/// What keeps a sabotage in force: agents that are frozen, programs that run.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "what is held works by being held")]
pub struct Held {
    pub(super) frozen: Vec<Frozen>,
    pub(super) programs: Vec<podlab::process::Process>,
}

/// The seed's cluster with the widest tunnel that its underlay carries.
fn cluster_spec() -> ClusterSpec {
    let mut spec = spec();
    for pool in &mut spec.pools {
        pool.tunnel_mtu = None;
    }
    spec
}

impl World {
    /// Boots it.
    ///
    /// # Errors
    /// What keeps the cluster from booting.
    pub async fn boot(backend: &str) -> Result<Result<Self, Lacking>, Error> {
        let agent = PodlabAgent::with_encapsulation(backend);
        let cluster = match try_boot(cluster_spec(), agent, backend).await? {
            Ok(cluster) => cluster,
            Err(lacking) => return Ok(Err(lacking)),
        };
        Ok(Ok(Self {
            backend: backend.to_owned(),
            from: cluster.pod(TEST_TOOLS)?,
            to: cluster.pod(DEMO_W2)?,
            beside: cluster.pod(DEMO)?,
            near: cluster.node(WORKER_1)?,
            far: cluster.node(WORKER_2)?,
            third: cluster.node(MASTER)?,
            cluster,
        }))
    }

    /// Runs a script on a machine, which has to succeed.
    pub(super) async fn run(&self, machine: &Machine, script: &str) -> Result<String> {
        let program = Program::new("sh").args(["-ec", script]);
        let output = machine.exec(program).await?.success();
        let output = output.with_context(|| format!("{}: {script}", machine.name()))?;
        Ok(output.stdout)
    }

    /// Stops the loop of a node's agent, so that it repairs nothing; what carries goes on.
    pub(super) fn freeze(&self, node: &Node) -> Result<Held> {
        let id = node.agent_id().context("no agent runs")?;
        Ok(Held {
            frozen: vec![Frozen::freeze(id)?],
            programs: Vec::new(),
        })
    }

    /// The MTU of a pod.
    pub(super) async fn mtu_of(&self, pod: &Pod) -> Result<u32> {
        let links = pod.links().await?;
        let device = links.into_iter().find(|link| link.name == "eth0");
        Ok(device.context("a pod has an eth0")?.mtu)
    }
}
