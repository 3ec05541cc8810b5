//! Brings a cluster from one plan to another. A boot is the change from nothing; what one verb
//! did is taken back by the same steps the other way round.
//!
//! The order is Kubernetes' and Calico's: a pod's endpoint is in the datastore only while its
//! interface is there (`CmdDelK8s` removes the endpoint and then the interface, `CmdAddK8s`
//! makes the interface and then writes the endpoint, cni-plugin/pkg/k8s/k8s.go).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::node::{DATASTORE_IN_NODE, NodeState};
use super::pod::PodState;
use super::port::{Port, Ports};
use super::timing::Stopwatch;
use super::{BootReport, Inner, wiring};
use crate::agent::RunningAgent;
use crate::error::Error;
use crate::event::{Kind, Role};
use crate::machine::Machine;
use crate::spec::{InterfacePlan, NodePlan, Plan, PodPlan};

/// The way from one plan to another.
pub(super) struct Difference<'a> {
    pub(super) cluster: &'a Inner,
    pub(super) before: &'a Plan,
    pub(super) after: &'a Plan,
}

impl Difference<'_> {
    /// Goes it. What is there already, or gone already, is left as it is, so that a way of which
    /// only a part was gone can be gone back.
    pub(super) async fn apply(&self) -> Result<BootReport, Error> {
        let mut report = BootReport::default();
        let mut watch = Stopwatch::start();
        self.take_pods_down().await?;
        self.remove_nodes().await?;

        self.cluster.files.write_hosts(self.after)?;
        self.make_machines().await?;
        report.namespaces = watch.lap();

        self.wire_fabric().await?;
        self.wire_nodes().await?;
        self.wire_pods().await?;
        self.write_datastore()?;
        report.links = watch.lap();

        let mut agents = self.start_agents()?;
        report.agents = watch.lap();
        let ready = agents.iter_mut().map(|(_, agent)| agent.ready());
        let statuses = try_join_all(ready).await?;
        for ((node, agent), status) in agents.into_iter().zip(statuses) {
            node.has_agent(agent, status);
        }
        report.ready = watch.lap();
        Ok(report)
    }

    async fn take_pods_down(&self) -> Result<(), Error> {
        let after = pods_by_name(self.after);
        let before = self.before.pods.iter();
        for pod in before.filter(|pod| !stays(pod, &after)) {
            self.cluster.datastore.remove_endpoint(pod)?;
            let Some(state) = self.cluster.find_pod(&pod.name) else {
                continue;
            };
            wiring::unwire_pod(&state.machine).await?;
            if !after.contains_key(pod.name.as_str()) {
                state.machine.remove();
                state
                    .machine
                    .record(Kind::MachineRemoved { role: Role::Pod });
                self.cluster
                    .world_mut()
                    .pods
                    .retain(|p| !Arc::ptr_eq(p, &state));
                self.cluster.files.forget_pod(&pod.name);
            }
        }
        Ok(())
    }

    async fn remove_nodes(&self) -> Result<(), Error> {
        let after = nodes_by_name(self.after);
        let before = self.before.nodes.iter();
        for node in before.filter(|node| !after.contains_key(node.name.as_str())) {
            if let Some(state) = self.cluster.find_node(&node.name) {
                state.kill_agent().await?;
                for port in &state.ports {
                    self.cluster
                        .fabric
                        .netlink()
                        .remove_link(&port.name)
                        .await?;
                }
                state.machine.remove();
                state
                    .machine
                    .record(Kind::MachineRemoved { role: Role::Node });
                self.cluster
                    .world_mut()
                    .nodes
                    .retain(|n| !Arc::ptr_eq(n, &state));
                self.cluster.files.forget_node(&node.name);
            }
            self.cluster.datastore.remove_node(&node.name)?;
        }
        Ok(())
    }

    /// Makes the namespaces of new machines.
    async fn make_machines(&self) -> Result<(), Error> {
        let files = &self.cluster.files;
        let nodes: Vec<&NodePlan> = self.new_nodes().collect();
        let pods: Vec<&PodPlan> = self.new_pods().collect();
        let mut wanted = Vec::new();
        for node in &nodes {
            wanted.push((node.name.clone(), files.node_mounts(&node.name)?));
        }
        for pod in &pods {
            wanted.push((pod.name.clone(), files.pod_mounts(pod)?));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let mut made = Machine::create_namespaces(wanted).await?.into_iter();
        let (events, faults) = (&self.cluster.events, &self.cluster.faults);
        let mut ports = Ports::in_use(self.cluster.world().nodes.iter().flat_map(|n| &n.ports));
        for (plan, namespaces) in nodes.iter().zip(&mut made) {
            // No forwarding: nodes are told to by their agents, pods never do.
            let machine = Machine::new(
                &plan.name,
                namespaces,
                false,
                events.clone(),
                faults.clone(),
            )?;
            let addresses = plan.interfaces().filter_map(|i| i.address);
            machine.record(Kind::MachineCreated {
                role: Role::Node,
                addresses: addresses.map(|address| address.addr().into()).collect(),
                on: None,
            });
            let log = files.agent_log(&plan.name);
            let node = NodeState::new(machine, plan, ports.take(plan), log);
            self.cluster.world_mut().nodes.push(Arc::new(node));
        }
        for (plan, namespaces) in pods.iter().zip(&mut made) {
            let machine = Machine::new(
                &plan.name,
                namespaces,
                false,
                events.clone(),
                faults.clone(),
            )?;
            machine.record(Kind::MachineCreated {
                role: Role::Pod,
                addresses: vec![plan.address.into()],
                on: Some(plan.node.clone()),
            });
            let node = self.cluster.node_state(&plan.node)?;
            let pod = PodState::new(machine, plan, node)?;
            self.cluster.world_mut().pods.push(Arc::new(pod));
        }
        Ok(())
    }

    async fn wire_fabric(&self) -> Result<(), Error> {
        let fabric = &self.cluster.fabric;
        for (index, underlay) in self.after.underlays.iter().enumerate() {
            match self.before.underlays.get(index) {
                None => wiring::add_bridge(fabric, underlay).await?,
                Some(before) if before.mtu != underlay.mtu => {
                    let ports = self.ports_of(index);
                    wiring::widen(fabric, underlay, &ports).await?;
                }
                Some(_) => {}
            }
        }
        // A plan knows no fewer networks than the one before it, unless a change is taken back.
        for gone in self
            .before
            .underlays
            .iter()
            .skip(self.after.underlays.len())
        {
            fabric.netlink().remove_link(&gone.bridge).await?;
        }
        Ok(())
    }

    /// The wires of the nodes that stay on the network `index`, and what they are to be.
    fn ports_of(&self, index: usize) -> Vec<(Port, &InterfacePlan)> {
        let new: Vec<&str> = self.new_nodes().map(|node| node.name.as_str()).collect();
        let stay = self.after.nodes.iter();
        let stay = stay.filter(|node| !new.contains(&node.name.as_str()));
        let interfaces = stay.flat_map(|node| node.interfaces().map(move |i| (node, i)));
        let here = interfaces.filter(|(_, interface)| interface.network == index);
        here.filter_map(|(node, interface)| {
            let state = self.cluster.find_node(&node.name)?;
            Some((state.port(&interface.name)?.clone(), interface))
        })
        .collect()
    }

    async fn wire_nodes(&self) -> Result<(), Error> {
        let fabric = &self.cluster.fabric;
        let before = nodes_by_name(self.before);
        let wire = self.after.nodes.iter().map(async |plan| {
            let node = self.cluster.node_state(&plan.name)?;
            match before.get(plan.name.as_str()) {
                None => {
                    wiring::wire_node(fabric, &node, plan, self.after).await?;
                    if !self.before.nodes.is_empty() {
                        wiring::announce(&node, &plan.underlay.name).await?;
                    }
                }
                Some(was) if *was != plan => {
                    let (was, is) = ((*was, self.before), (plan, self.after));
                    wiring::rewire_node(fabric, &node, was, is).await?;
                }
                Some(_) => {}
            }
            node.is_now(plan);
            Ok::<_, Error>(())
        });
        try_join_all(wire).await?;
        Ok(())
    }

    async fn wire_pods(&self) -> Result<(), Error> {
        let wire = self.changed_pods().map(async |plan| {
            let pod = self.cluster.pod_state(&plan.name)?;
            let node = self.cluster.node_state(&plan.node)?;
            self.cluster.files.write_pod_hosts(plan)?;
            let mtu = self.pod_mtu(plan);
            wiring::wire_pod(&node.machine, &pod.machine, plan, mtu).await?;
            pod.is_now(plan, node);
            Ok::<_, Error>(())
        });
        try_join_all(wire).await?;
        Ok(())
    }

    /// As a CNI plugin does it: what the node's agent says, if there is one that does.
    pub(super) fn pod_mtu(&self, pod: &PodPlan) -> u32 {
        let file = self.cluster.agent.mtu_file();
        let said = file.and_then(|file| self.cluster.files.pod_mtu(&pod.node, file));
        said.unwrap_or(pod.mtu)
    }

    fn write_datastore(&self) -> Result<(), Error> {
        let datastore = &self.cluster.datastore;
        for pool in self
            .after
            .pools
            .iter()
            .filter(|pool| !self.before.pools.contains(pool))
        {
            datastore.put_pool(pool)?;
        }
        let stays = |name: &str| self.after.pools.iter().any(|pool| pool.name == name);
        for pool in self.before.pools.iter().filter(|pool| !stays(&pool.name)) {
            datastore.remove_pool(&pool.name)?;
        }
        let before = nodes_by_name(self.before);
        let record = |node: &NodePlan| (node.address, node.tunnel_address, node.blocks.clone());
        for node in &self.after.nodes {
            let was = before.get(node.name.as_str()).map(|was| record(was));
            if was != Some(record(node)) {
                datastore.put_node(node)?;
            }
        }
        for pod in self.changed_pods() {
            datastore.put_endpoint(pod)?;
        }
        Ok(())
    }

    fn start_agents(&self) -> Result<Vec<(Arc<NodeState>, RunningAgent)>, Error> {
        let now = self.new_nodes().filter(|plan| !plan.agent_later);
        let agents = now.map(|plan| {
            let node = self.cluster.node_state(&plan.name)?;
            let agent = RunningAgent::start(
                self.cluster.agent.as_ref(),
                &node.machine,
                Path::new(DATASTORE_IN_NODE),
                &node.log,
            )?;
            Ok((node, agent))
        });
        agents.collect()
    }

    fn new_nodes(&self) -> impl Iterator<Item = &NodePlan> {
        let before = nodes_by_name(self.before);
        let after = self.after.nodes.iter();
        after.filter(move |node| !before.contains_key(node.name.as_str()))
    }

    fn new_pods(&self) -> impl Iterator<Item = &PodPlan> {
        let before = pods_by_name(self.before);
        let after = self.after.pods.iter();
        after.filter(move |pod| !before.contains_key(pod.name.as_str()))
    }

    /// Pods that are new or placed anew.
    fn changed_pods(&self) -> impl Iterator<Item = &PodPlan> {
        let before = pods_by_name(self.before);
        let after = self.after.pods.iter();
        after.filter(move |pod| !stays(pod, &before))
    }
}

/// Whether a pod is in the same place there. A new MTU alone does not touch a pod that runs:
/// Calico gives it to those that are made from then on.
fn stays(pod: &PodPlan, there: &BTreeMap<&str, &PodPlan>) -> bool {
    let there = there.get(pod.name.as_str());
    there.is_some_and(|there| (&there.node, there.address) == (&pod.node, pod.address))
}

fn nodes_by_name(plan: &Plan) -> BTreeMap<&str, &NodePlan> {
    let nodes = plan.nodes.iter();
    nodes.map(|node| (node.name.as_str(), node)).collect()
}

fn pods_by_name(plan: &Plan) -> BTreeMap<&str, &PodPlan> {
    let pods = plan.pods.iter();
    pods.map(|pod| (pod.name.as_str(), pod)).collect()
}
