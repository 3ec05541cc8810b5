//! Turns a specification into a plan, or into the list of everything that is wrong with it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::fault::listed;
use super::fields::{Check, INTERFACE_NAME_MAX};
use super::{
    ClusterSpec, ContainerPlan, ContainerSpec, NodePlan, NodeSpec, Plan, PodPlan, PodSpec,
    PoolPlan, SpecError, UnderlayPlan,
};

/// The size of the IPv4 header that IPIP puts around a packet.
const OUTER_HEADER: u32 = 20;

impl ClusterSpec {
    /// Checks the whole specification and fills in every default.
    pub(crate) fn plan(&self) -> Result<Plan, SpecError> {
        let mut check = Check::default();
        let pools = check.pools(self);
        let mut nodes = check.nodes(self, &pools);
        let underlays = check.underlays(self, &mut nodes);
        let pods = check.pods(self, &nodes, &pools);
        if self.nodes.is_empty() {
            check.faults.add(
                "cluster",
                "it has no nodes",
                "add one with .node(name, |n| …)",
            );
        }
        if check.faults.0.is_empty() {
            Ok(Plan {
                underlays,
                pools,
                nodes,
                pods,
            })
        } else {
            Err(SpecError {
                faults: check.faults.0,
            })
        }
    }

    /// Checks the specification as [`Cluster::builder`](crate::Cluster::builder) would at boot.
    ///
    /// # Errors
    /// Every fault that there is, each with the name of the thing and a hint.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.plan().map(drop)
    }
}

impl Check {
    fn pools(&mut self, spec: &ClusterSpec) -> Vec<PoolPlan> {
        let default = [super::PoolSpec {
            name: "default-pool".to_owned(),
            cidr: "192.168.0.0/16".to_owned(),
            block_size: 24,
            encapsulation: super::Encapsulation::Always,
            nat_outgoing: false,
            tunnel_mtu: None,
        }];
        let specs = if spec.pools.is_empty() {
            &default[..]
        } else {
            &spec.pools[..]
        };
        let mut pools: Vec<PoolPlan> = Vec::new();
        for pool in specs {
            let subject = format!("pool {:?}", pool.name);
            self.name(&subject, &pool.name);
            if let Some(mtu) = pool.tunnel_mtu {
                self.mtu(&subject, mtu);
            }
            let Some(cidr) = self.network(&subject, "cidr", &pool.cidr) else {
                continue;
            };
            if pool.block_size < cidr.prefix_len() || pool.block_size > 32 {
                self.faults.add(
                    &subject,
                    format!("block size /{} does not fit into {cidr}", pool.block_size),
                    format!("choose a prefix length from {} to 32", cidr.prefix_len()),
                );
            }
            for other in &pools {
                if other.name == pool.name {
                    self.faults
                        .add(&subject, "there are two pools of that name", "rename one");
                }
                if overlap(other.cidr, cidr) {
                    self.faults.add(
                        &subject,
                        format!("{cidr} overlaps {} of pool {:?}", other.cidr, other.name),
                        "give every pool a range of its own",
                    );
                }
            }
            pools.push(PoolPlan {
                name: pool.name.clone(),
                cidr,
                block_size: pool.block_size,
                encapsulation: pool.encapsulation,
                nat_outgoing: pool.nat_outgoing,
                tunnel_mtu: pool.tunnel_mtu,
            });
        }
        pools
    }

    fn nodes(&mut self, spec: &ClusterSpec, pools: &[PoolPlan]) -> Vec<NodePlan> {
        let mut nodes: Vec<NodePlan> = Vec::new();
        let mut ports = BTreeSet::new();
        for node in &spec.nodes {
            let subject = format!("node {:?}", node.name);
            self.name(&subject, &node.name);
            if nodes.iter().any(|other| other.name == node.name) {
                self.faults
                    .add(&subject, "there are two nodes of that name", "rename one");
            }
            self.interface(&subject, &node.interface);
            self.mtu(&subject, node.mtu);
            let address = self.node_address(&subject, node);
            let blocks = self.blocks(&subject, node, pools, &nodes);
            let tunnel_address = match &node.tunnel_address {
                Some(text) => self.address(&subject, "tunnel address", text),
                None => blocks.first().map(Ipv4Net::network),
            };
            if let Some(tunnel_address) = tunnel_address {
                self.claim(&format!("{subject} (tunnel address)"), tunnel_address);
            }
            nodes.push(NodePlan {
                name: node.name.clone(),
                // A node without a good address still takes part in the checks of the others.
                address: address.unwrap_or_default(),
                interface: node.interface.clone(),
                mtu: node.mtu,
                blocks,
                tunnel_address,
                underlay: usize::MAX,
                port: port_name(&node.name, &mut ports),
            });
        }
        nodes
    }

    fn node_address(&mut self, subject: &str, node: &NodeSpec) -> Option<Ipv4Net> {
        let Ok(address) = node.address.parse::<Ipv4Net>() else {
            self.faults.add(
                subject,
                format!(
                    "its address {:?} is no IPv4 address with a prefix",
                    node.address
                ),
                "write it like 10.12.22.2/16",
            );
            return None;
        };
        if address.prefix_len() < 31
            && [address.network(), address.broadcast()].contains(&address.addr())
        {
            self.faults.add(
                subject,
                format!(
                    "{} is the network or broadcast address of {}",
                    address.addr(),
                    address.trunc()
                ),
                "choose an address inside the network",
            );
        }
        self.claim(subject, address.addr());
        Some(address)
    }

    fn blocks(
        &mut self,
        subject: &str,
        node: &NodeSpec,
        pools: &[PoolPlan],
        others: &[NodePlan],
    ) -> Vec<Ipv4Net> {
        let mut blocks = Vec::new();
        for text in &node.blocks {
            let Some(block) = self.network(subject, "block", text) else {
                continue;
            };
            if !pools.iter().any(|pool| pool.cidr.contains(&block)) {
                self.faults.add(
                    subject,
                    format!("block {block} lies in no pool"),
                    format!("pools: {}", listed(pools.iter().map(|pool| pool.cidr))),
                );
            }
            for other in others {
                for taken in other.blocks.iter().filter(|taken| overlap(**taken, block)) {
                    self.faults.add(
                        subject,
                        format!(
                            "block {block} overlaps block {taken} of node {:?}",
                            other.name
                        ),
                        "give every node blocks of its own",
                    );
                }
            }
            blocks.push(block);
        }
        blocks
    }

    fn underlays(&mut self, spec: &ClusterSpec, nodes: &mut [NodePlan]) -> Vec<UnderlayPlan> {
        let mut networks: Vec<Ipv4Net> = Vec::new();
        let mut underlays: Vec<UnderlayPlan> = Vec::new();
        for (index, underlay) in spec.underlays.iter().enumerate() {
            let subject = format!("underlay {:?}", underlay.network);
            let Some(network) = self.network(&subject, "network", &underlay.network) else {
                continue;
            };
            if let Some(other) = networks.iter().find(|other| overlap(**other, network)) {
                self.faults.add(
                    &subject,
                    format!("it overlaps underlay {other}"),
                    "list each network once",
                );
            }
            let gateway = match &underlay.gateway {
                Some(text) => self.address(&subject, "gateway", text),
                None => Some(self.free_address(network)),
            };
            if let Some(mtu) = underlay.mtu {
                self.mtu(&subject, mtu);
            }
            let Some(gateway) = gateway else { continue };
            if !network.contains(&gateway) {
                self.faults.add(
                    &subject,
                    format!("its gateway {gateway} lies outside of it"),
                    "choose an address inside the network",
                );
            }
            networks.push(network);
            underlays.push(underlay_plan(
                index,
                gateway,
                network,
                underlay.mtu.unwrap_or(0),
            ));
        }
        for node in nodes
            .iter_mut()
            .filter(|node| node.address != Ipv4Net::default())
        {
            let network = node.address.trunc();
            node.underlay = networks
                .iter()
                .position(|known| *known == network)
                .unwrap_or_else(|| {
                    let gateway = self.free_address(network);
                    networks.push(network);
                    underlays.push(underlay_plan(underlays.len(), gateway, network, 0));
                    networks.len() - 1
                });
            let underlay = &mut underlays[node.underlay];
            let given = spec
                .underlays
                .get(node.underlay)
                .and_then(|given| given.mtu);
            underlay.mtu = given.unwrap_or(underlay.mtu.max(node.mtu));
        }
        for underlay in &underlays {
            self.claim(
                &format!("gateway of underlay {}", underlay.gateway.trunc()),
                underlay.gateway.addr(),
            );
        }
        underlays
    }

    fn pods(&mut self, spec: &ClusterSpec, nodes: &[NodePlan], pools: &[PoolPlan]) -> Vec<PodPlan> {
        let mut pods: Vec<PodPlan> = Vec::new();
        for pod in &spec.pods {
            let subject = format!("pod {:?}", pod.name);
            self.name(&subject, &pod.name);
            self.name(&subject, &pod.namespace);
            if pods.iter().any(|other| other.name == pod.name) {
                self.faults
                    .add(&subject, "there are two pods of that name", "rename one");
            }
            let node = nodes.iter().position(|node| node.name == pod.node);
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
                node,
                mtu: pool
                    .and_then(|pool| pool.tunnel_mtu)
                    .unwrap_or(nodes[node].mtu.saturating_sub(OUTER_HEADER)),
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

fn underlay_plan(index: usize, gateway: Ipv4Addr, network: Ipv4Net, mtu: u32) -> UnderlayPlan {
    UnderlayPlan {
        bridge: format!("br{index}"),
        // The prefix comes from a network, so it is one.
        gateway: Ipv4Net::new_assert(gateway, network.prefix_len()),
        mtu,
    }
}

/// The node's own name where the kernel takes it, so that captures in the fabric read well.
fn port_name(node: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name = node.to_owned();
    if name.len() > INTERFACE_NAME_MAX || name.starts_with("br") || name == "lo" {
        name = format!("port{}", taken.len());
    }
    taken.insert(name.clone());
    name
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}
