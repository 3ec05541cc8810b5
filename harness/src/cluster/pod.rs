//! A pod: a machine with one `eth0`, shared by its containers.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::sync::Arc;

use super::{Container, Inner, Node};
use crate::error::Error;
use crate::machine::Machine;
use crate::probe::server::HttpServer;
use crate::spec::PodPlan;

/// A handle on a pod. It has all the verbs of a [`Machine`].
#[derive(Debug, Clone)]
pub struct Pod {
    pub(super) cluster: Arc<Inner>,
    pub(super) index: usize,
}

#[derive(Debug)]
pub(super) struct PodState {
    pub(super) machine: Machine,
    pub(super) plan: PodPlan,
    /// The servers of its containers, in their order; they end with the cluster.
    pub(super) servers: Vec<Option<HttpServer>>,
}

impl Pod {
    pub(super) fn new(cluster: &Arc<Inner>, index: usize) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            index,
        }
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.state().plan.address
    }

    /// Its Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.state().plan.namespace
    }

    /// The node it runs on.
    pub fn node(&self) -> Node {
        Node::new(&self.cluster, self.state().plan.node)
    }

    /// The name of the node's side of its veth pair, `cali…`.
    pub fn host_interface(&self) -> String {
        self.state().plan.host_interface()
    }

    /// The container `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that there are.
    pub fn container(&self, name: &str) -> Result<Container, Error> {
        let containers = &self.state().plan.containers;
        let index = containers
            .iter()
            .position(|container| container.name == name);
        index
            .map(|index| Container {
                pod: self.clone(),
                index,
            })
            .ok_or_else(|| {
                let known = containers.iter().map(|container| container.name.as_str());
                Error::unknown("container", name, known)
            })
    }

    /// All containers, in the order of the specification.
    pub fn containers(&self) -> Vec<Container> {
        let count = self.state().plan.containers.len();
        (0..count)
            .map(|index| Container {
                pod: self.clone(),
                index,
            })
            .collect()
    }

    pub(super) fn state(&self) -> &PodState {
        &self.cluster.pods[self.index]
    }
}

impl Deref for Pod {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.state().machine
    }
}

/// So that a pod can be pinged by its handle.
impl From<&Pod> for Ipv4Addr {
    fn from(pod: &Pod) -> Self {
        pod.address()
    }
}
