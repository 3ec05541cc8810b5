//! The networks between the nodes: those that are listed and those that addresses imply.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Check, overlap};
use crate::spec::{ClusterSpec, NodePlan, UnderlayPlan, default_mtu};

impl Check {
    pub(super) fn underlays(
        &mut self,
        spec: &ClusterSpec,
        nodes: &mut [NodePlan],
    ) -> Vec<UnderlayPlan> {
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
        for node in nodes.iter_mut() {
            let own = (node.address != Ipv4Net::default()).then(|| node.address.trunc());
            for interface in node.interfaces_mut() {
                // One without an address is plugged in where the node's address is.
                let network = interface.address.map(|address| address.trunc()).or(own);
                let Some(network) = network else { continue };
                interface.network = networks
                    .iter()
                    .position(|known| *known == network)
                    .unwrap_or_else(|| {
                        let gateway = self.free_address(network);
                        networks.push(network);
                        underlays.push(underlay_plan(underlays.len(), gateway, network, 0));
                        networks.len() - 1
                    });
                let underlay = &mut underlays[interface.network];
                let given = spec
                    .underlays
                    .get(interface.network)
                    .and_then(|given| given.mtu);
                underlay.mtu = given.unwrap_or(underlay.mtu.max(interface.mtu));
            }
        }
        for underlay in &mut underlays {
            if underlay.mtu == 0 {
                // Nobody is plugged in.
                underlay.mtu = default_mtu();
            }
            self.claim(
                &format!("gateway of underlay {}", underlay.gateway.trunc()),
                underlay.gateway.addr(),
            );
        }
        underlays
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
