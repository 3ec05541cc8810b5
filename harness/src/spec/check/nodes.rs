//! The nodes: addresses, interfaces, blocks.

use ipnet::Ipv4Net;

use super::{Check, overlap};
use crate::spec::fault::listed;
use crate::spec::{ClusterSpec, InterfacePlan, InterfaceSpec, NodePlan, NodeSpec, PoolPlan};

impl Check {
    pub(super) fn nodes(&mut self, spec: &ClusterSpec, pools: &[PoolPlan]) -> Vec<NodePlan> {
        let mut nodes: Vec<NodePlan> = Vec::new();
        for node in &spec.nodes {
            let subject = format!("node {:?}", node.name);
            self.name(&subject, &node.name);
            if nodes.iter().any(|other| other.name == node.name) {
                self.faults
                    .add(&subject, "there are two nodes of that name", "rename one");
            }
            self.interface(&subject, &node.interface);
            self.mtu(&subject, node.mtu);
            let address = self.node_address(&subject, &node.address);
            let others = self.other_interfaces(&subject, node);
            let blocks = self.blocks(&subject, node, pools, &nodes);
            let tunnel_address = match &node.tunnel_address {
                Some(text) => self.address(&subject, "tunnel address", text),
                None => blocks.first().map(Ipv4Net::network),
            };
            if let Some(tunnel_address) = tunnel_address {
                // One that was taken from a block is as good as the block.
                let given = node.tunnel_address.is_some();
                if given && !pools.iter().any(|pool| pool.cidr.contains(&tunnel_address)) {
                    self.faults.add(
                        &subject,
                        format!("its tunnel address {tunnel_address} lies in no pool"),
                        format!("pools: {}", listed(pools.iter().map(|pool| pool.cidr))),
                    );
                }
                self.claim(&format!("{subject} (tunnel address)"), tunnel_address);
            }
            nodes.push(NodePlan {
                agent_later: node.agent_later,
                name: node.name.clone(),
                // A node without a good address still takes part in the checks of the others.
                address: address.unwrap_or_default(),
                underlay: InterfacePlan {
                    name: node.interface.clone(),
                    address,
                    mtu: node.mtu,
                    network: usize::MAX,
                },
                others,
                blocks,
                tunnel_address,
            });
        }
        nodes
    }

    fn other_interfaces(&mut self, subject: &str, node: &NodeSpec) -> Vec<InterfacePlan> {
        let mut others: Vec<InterfacePlan> = Vec::new();
        for InterfaceSpec { name, address, mtu } in &node.interfaces {
            self.interface(subject, name);
            self.mtu(subject, *mtu);
            if *name == node.interface || others.iter().any(|other| other.name == *name) {
                self.faults.add(
                    subject,
                    format!("it has two interfaces {name:?}"),
                    "rename one",
                );
            }
            let address = address.as_ref();
            others.push(InterfacePlan {
                name: name.clone(),
                address: address.and_then(|address| self.node_address(subject, address)),
                mtu: *mtu,
                network: usize::MAX,
            });
        }
        others
    }

    fn node_address(&mut self, subject: &str, text: &str) -> Option<Ipv4Net> {
        let Ok(address) = text.parse::<Ipv4Net>() else {
            self.faults.add(
                subject,
                format!("its address {text:?} is no IPv4 address with a prefix"),
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
}
