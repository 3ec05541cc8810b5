//! Nodes that crash, with the pods on them, and come back.

use std::sync::{Arc, Weak};

use super::difference::Difference;
use super::node::NodeState;
use super::pod::{Pod, PodState};
use super::wiring;
use super::{Hold, Inner, Node};
use crate::error::Error;
use crate::machine::Machine;

/// A node that does not keep its cluster alive.
#[derive(Debug, Clone)]
pub(crate) struct WeakNode {
    cluster: Weak<Inner>,
    state: Weak<NodeState>,
}

impl WeakNode {
    /// The node, unless it or its cluster is gone.
    pub(crate) fn upgrade(&self) -> Option<Node> {
        let node = Node {
            cluster: Hold::new(self.cluster.upgrade()?),
            state: self.state.upgrade()?,
        };
        let known = node.cluster.find_node(node.name())?;
        Arc::ptr_eq(&known, &node.state).then_some(node)
    }
}

impl Node {
    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode {
            cluster: self.cluster.downgrade(),
            state: Arc::downgrade(&self.state),
        }
    }

    /// The machines of the pods on it.
    pub(crate) fn pod_machines(&self) -> Vec<Machine> {
        let pods = self.pod_states().into_iter();
        pods.map(|pod| pod.machine.clone()).collect()
    }

    /// The pods on it.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        let pods = self.pod_states().into_iter();
        pods.map(|pod| Pod::new(&self.cluster, pod)).collect()
    }

    fn pod_states(&self) -> Vec<Arc<PodState>> {
        let world = self.cluster.world();
        let pods = world.pods.iter();
        pods.filter(|pod| Arc::ptr_eq(&pod.place().node, &self.state))
            .cloned()
            .collect()
    }

    /// Switches the node off, and the pods on it: first nothing leaves it any more, then nothing
    /// runs any more, and what its kernel had is gone. The datastore keeps all of it.
    pub(crate) async fn power_off(&self) -> Result<(), Error> {
        // No change of the cluster may fall in between.
        let _current = self.cluster.current.lock().await;
        self.live()?;
        let pods = self.pod_states();
        for port in &self.state.ports {
            let netlink = self.cluster.fabric.netlink();
            netlink.remove_link(&port.name).await?;
        }
        for pod in &pods {
            wiring::unwire_pod(&pod.machine).await?;
            pod.stop_servers();
            pod.machine.switch_off();
        }
        self.state.kill_agent().await?;
        self.state.machine.switch_off();
        self.cluster.files.empty_agent_folder(self.name());
        Ok(())
    }

    /// Switches the node on again: the same names, addresses and hardware addresses, and nothing
    /// else of its former life. Returns when its agent is ready. What works already is left alone.
    pub(crate) async fn power_on(&self) -> Result<(), Error> {
        let current = self.cluster.current.lock().await;
        let plan = &current.plan;
        let Some(own) = plan.nodes.iter().find(|node| node.name == self.name()) else {
            return Ok(());
        };
        let files = &self.cluster.files;
        if self.live().is_err() {
            let wanted = vec![(own.name.clone(), files.node_mounts(&own.name)?)];
            let mut made = Machine::create_namespaces(wanted).await?;
            self.state.machine.switch_on(made.remove(0))?;
            wiring::wire_node(&self.cluster.fabric, &self.state, own, plan).await?;
            wiring::announce(&self.state, &own.underlay.name).await?;
        }
        for pod in self.pod_states() {
            let machine = &pod.machine;
            let Some(own) = plan.pods.iter().find(|pod| pod.name == machine.name()) else {
                continue;
            };
            if machine.live().is_ok() {
                continue;
            }
            let wanted = vec![(own.name.clone(), files.pod_mounts(own)?)];
            let mut made = Machine::create_namespaces(wanted).await?;
            machine.switch_on(made.remove(0))?;
            pod.start_servers()?;
            let way = Difference {
                cluster: &self.cluster,
                before: plan,
                after: plan,
            };
            let mtu = way.pod_mtu(own);
            wiring::wire_pod(&self.state.machine, machine, own, mtu).await?;
        }
        drop(current);
        if !self.is_agent_running() {
            self.start_agent().await?;
        }
        Ok(())
    }
}
