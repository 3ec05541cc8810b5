//! The pods and their containers.

use super::{Check, OUTER_HEADER};
use crate::spec::fault::listed;
use crate::spec::{
    ClusterSpec, ContainerPlan, ContainerSpec, NodePlan, PodPlan, PodSpec, PoolPlan,
};

impl Check {
    pub(super) fn pods(
        &mut self,
        spec: &ClusterSpec,
        nodes: &[NodePlan],
        pools: &[PoolPlan],
    ) -> Vec<PodPlan> {
        let mut pods: Vec<PodPlan> = Vec::new();
        for pod in &spec.pods {
            let subject = format!("pod {:?}", pod.name);
            self.name(&subject, &pod.name);
            self.name(&subject, &pod.namespace);
            if pods.iter().any(|other| other.name == pod.name) {
                self.faults
                    .add(&subject, "there are two pods of that name", "rename one");
            }
            let node = nodes.iter().find(|node| node.name == pod.node);
            if node.is_none() {
                self.faults.add(
                    &subject,
                    format!("it is on node {:?}, which does not exist", pod.node),
                    format!(
                        "known nodes: {}",
                        listed(nodes.iter().map(|node| &node.name))
                    ),
                );
            }
            let containers = self.containers(&subject, pod);
            let Some(address) = self.address(&subject, "address", &pod.address) else {
                continue;
            };
            self.claim(&subject, address);
            if !nodes
                .iter()
                .flat_map(|node| &node.blocks)
                .any(|block| block.contains(&address))
            {
                self.faults.add(
                    &subject,
                    format!("its address {address} lies outside every block"),
                    format!(
                        "blocks: {}",
                        listed(nodes.iter().flat_map(|node| &node.blocks))
                    ),
                );
            }
            let Some(node) = node else { continue };
            let pool = pools.iter().find(|pool| pool.cidr.contains(&address));
            pods.push(PodPlan {
                name: pod.name.clone(),
                namespace: pod.namespace.clone(),
                address,
                node: node.name.clone(),
                mtu: pool
                    .and_then(|pool| pool.tunnel_mtu)
                    .unwrap_or(node.underlay.mtu.saturating_sub(OUTER_HEADER)),
                containers,
            });
        }
        pods
    }

    fn containers(&mut self, subject: &str, pod: &PodSpec) -> Vec<ContainerPlan> {
        let mut containers: Vec<ContainerPlan> = Vec::new();
        for ContainerSpec { name, http } in &pod.containers {
            self.name(subject, name);
            if containers.iter().any(|other| other.name == *name) {
                self.faults.add(
                    subject,
                    format!("it has two containers {name:?}"),
                    "rename one",
                );
            }
            if http.is_some() && containers.iter().any(|other| other.http == *http) {
                self.faults.add(
                    subject,
                    format!("two containers serve port {}", http.unwrap_or_default()),
                    "the containers of a pod share its ports: choose another",
                );
            }
            containers.push(ContainerPlan {
                name: name.clone(),
                http: *http,
            });
        }
        containers
    }
}
