//! Where a trace begins and ends.

use std::net::Ipv4Addr;

use super::TraceError;
use super::topology::{FABRIC, Party, Topology};
use crate::cluster::{Cluster, Container, Node, Pod};
use crate::error::Error;
use crate::machine::Machine;

/// An end of a trace: a pod, a node, or an address. An address that no pod and no node has is
/// one of the fabric, or beyond it.
#[derive(Debug, Clone)]
pub struct Endpoint(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Machine(Machine, Ipv4Addr),
    Address(Ipv4Addr),
}

impl From<&Pod> for Endpoint {
    fn from(pod: &Pod) -> Self {
        Self(Kind::Machine(Machine::clone(pod), pod.address()))
    }
}

impl From<&Container> for Endpoint {
    fn from(container: &Container) -> Self {
        Self::from(container.pod())
    }
}

impl From<&Node> for Endpoint {
    fn from(node: &Node) -> Self {
        Self(Kind::Machine(Machine::clone(node), node.address()))
    }
}

impl From<Ipv4Addr> for Endpoint {
    fn from(address: Ipv4Addr) -> Self {
        Self(Kind::Address(address))
    }
}

/// An end, found in the cluster.
pub(super) struct Found {
    pub(super) party: Party,
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    /// `None` for an address that nobody here has.
    pub(super) machine: Option<Machine>,
    /// The source address that was asked for; otherwise the kernel chooses.
    pub(super) source: Option<Ipv4Addr>,
}

impl Endpoint {
    pub(super) async fn find(self, cluster: &Cluster, topology: &Topology) -> Result<Found, Error> {
        let (machine, address, source) = match self.0 {
            Kind::Machine(machine, address) => (Some(machine), address, None),
            Kind::Address(address) => (
                machine_at(cluster, topology, address).await?,
                address,
                Some(address),
            ),
        };
        let party = topology.party(address);
        let name = match &machine {
            Some(machine) if machine.name() != FABRIC => machine.name().to_owned(),
            _ => address.to_string(),
        };
        Ok(Found {
            party,
            name,
            address,
            machine,
            source,
        })
    }
}

impl Found {
    /// The machine that the probe is sent from.
    pub(super) fn sender(&self) -> Result<&Machine, TraceError> {
        self.machine.as_ref().ok_or(TraceError::NoSender {
            address: self.address,
        })
    }
}

async fn machine_at(
    cluster: &Cluster,
    topology: &Topology,
    address: Ipv4Addr,
) -> Result<Option<Machine>, Error> {
    Ok(match topology.party(address) {
        Party::Pod(name) => Some(Machine::clone(&*cluster.pod(&name)?)),
        Party::Node(name) => Some(Machine::clone(&*cluster.node(&name)?)),
        Party::Unassigned(_) => None,
        Party::Outside => {
            let addresses = cluster.fabric().addresses().await?;
            let has = addresses.iter().any(|own| own.address.addr() == address);
            has.then(|| cluster.fabric().clone())
        }
    })
}
