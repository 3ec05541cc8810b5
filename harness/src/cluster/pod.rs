//! A pod: a machine with one `eth0`, shared by its containers.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::node::NodeState;
use super::wiring::POD_DEVICE;
use super::{Container, Hold, Node};
use crate::capture::Tap;
use crate::error::Error;
use crate::fault::{End, Wire, WireKind};
use crate::machine::Machine;
use crate::probe::server::{FrozenServer, HttpServer, hello};
use crate::spec::{ContainerPlan, PodPlan};

/// A handle on a pod. It has all the verbs of a [`Machine`].
///
/// A pod can be moved and renumbered while it runs; what the handle says is what holds now. When
/// the pod is removed from the cluster its verbs become [`Error::Removed`], and its properties
/// stay what they were last.
#[derive(Debug, Clone)]
pub struct Pod {
    cluster: Arc<Hold>,
    state: Arc<PodState>,
}

#[derive(Debug)]
pub(super) struct PodState {
    pub(super) machine: Machine,
    /// As it was made; its names and containers stay.
    made: PodPlan,
    place: Mutex<Place>,
    /// The servers of its containers, in their order; they end with the pod.
    servers: Mutex<Vec<Option<Arc<HttpServer>>>>,
}

/// What changes when a pod is moved or renumbered.
#[derive(Debug, Clone)]
pub(super) struct Place {
    address: Ipv4Addr,
    pub(super) node: Arc<NodeState>,
}

impl PodState {
    /// Starts the servers of its containers.
    pub(super) fn new(
        machine: Machine,
        plan: &PodPlan,
        node: Arc<NodeState>,
    ) -> Result<Self, Error> {
        let place = Place {
            address: plan.address,
            node,
        };
        let pod = Self {
            machine,
            made: plan.clone(),
            place: Mutex::new(place),
            servers: Mutex::default(),
        };
        pod.start_servers()?;
        Ok(pod)
    }

    /// Starts the servers of its containers anew; what they were asked is forgotten.
    pub(super) fn start_servers(&self) -> Result<(), Error> {
        let servers = self.made.containers.iter().map(|container| {
            let answers = || hello(&self.made.name);
            let server = container.http.map(|port| {
                let server = self.machine.serve_http(port, answers())?;
                Ok(Arc::new(server))
            });
            server.transpose()
        });
        *self.servers() = servers.collect::<Result<Vec<_>, Error>>()?;
        Ok(())
    }

    /// Ends them. Somebody who still holds one finds it deaf.
    pub(super) fn stop_servers(&self) {
        for server in self.servers().drain(..).flatten() {
            server.close();
        }
    }

    /// They do not answer until this is dropped; the kernel takes connections all the same.
    pub(super) fn freeze_servers(&self) -> Vec<FrozenServer> {
        let servers = self.servers();
        let servers = servers.iter().flatten();
        servers.map(|server| server.freeze()).collect()
    }

    fn servers(&self) -> MutexGuard<'_, Vec<Option<Arc<HttpServer>>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_now(&self, plan: &PodPlan, node: Arc<NodeState>) {
        let address = plan.address;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Place { address, node };
    }

    pub(super) fn place(&self) -> Place {
        let place = self.place.lock();
        place.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Pod {
    pub(super) fn new(cluster: &Arc<Hold>, state: Arc<PodState>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            state,
        }
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.state.place().address
    }

    /// Its Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.state.made.namespace
    }

    /// The node it runs on.
    pub fn node(&self) -> Node {
        Node {
            cluster: Arc::clone(&self.cluster),
            state: self.state.place().node,
        }
    }

    /// The name of the node's side of its veth pair, `cali…`.
    pub fn host_interface(&self) -> String {
        self.state.made.host_interface()
    }

    /// The wire from its `eth0` to its node.
    ///
    /// # Errors
    /// When the pod was removed.
    pub fn wire(&self) -> Result<Wire, Error> {
        let node = self.state.place().node;
        Ok(Wire {
            near: End {
                machine: self.state.machine.live()?.clone(),
                device: POD_DEVICE.to_owned(),
            },
            far: End {
                machine: node.machine.clone(),
                device: self.host_interface(),
            },
            kind: WireKind::Pod,
        })
    }

    /// The name of a capture on its `eth0`.
    pub fn own_tap(&self) -> Tap {
        self.tap("eth0")
    }

    /// The name of a capture on the node's side of its veth pair.
    pub fn host_tap(&self) -> Tap {
        self.node().tap(self.host_interface())
    }

    /// The container `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that there are.
    pub fn container(&self, name: &str) -> Result<Container, Error> {
        let containers = &self.state.made.containers;
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
        let count = self.state.made.containers.len();
        (0..count)
            .map(|index| Container {
                pod: self.clone(),
                index,
            })
            .collect()
    }

    pub(crate) fn freeze_servers(&self) -> Vec<FrozenServer> {
        self.state.freeze_servers()
    }

    pub(super) fn container_plan(&self, index: usize) -> &ContainerPlan {
        &self.state.made.containers[index]
    }

    pub(super) fn server(&self, index: usize) -> Option<Arc<HttpServer>> {
        self.state.servers().get(index)?.clone()
    }
}

impl Deref for Pod {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.state.machine
    }
}

/// So that a pod can be pinged by its handle.
impl From<&Pod> for Ipv4Addr {
    fn from(pod: &Pod) -> Self {
        pod.address()
    }
}
