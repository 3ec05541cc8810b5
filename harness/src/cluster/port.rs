//! The names and hardware addresses of the wires between the nodes and the fabric.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::netlink::MacAddress;
use crate::spec::NodePlan;

/// `IFNAMSIZ` without the final zero.
const NAME_MAX: usize = 15;

/// The wire of one interface of a node. It stays what it is when the node's address changes, as
/// a network card does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// The interface in the node.
    pub(super) interface: String,
    /// The other end's name in the fabric.
    pub(super) name: String,
    /// The hardware address of the interface.
    pub(super) mac: MacAddress,
}

impl Port {
    /// The hardware address of the other end. It is a switch's: nobody on the network sees it.
    pub(super) fn fabric_mac(&self) -> MacAddress {
        let MacAddress([_, rest @ ..]) = self.mac;
        let [a, b, c, d, e] = rest;
        MacAddress([0x06, a, b, c, d, e])
    }
}

/// Gives out wires of which no two are alike.
#[derive(Debug, Default)]
pub(super) struct Ports {
    names: BTreeSet<String>,
    macs: BTreeSet<MacAddress>,
}

impl Ports {
    /// With those in use that there are.
    pub(super) fn in_use<'a>(ports: impl IntoIterator<Item = &'a Port>) -> Self {
        let mut taken = Self::default();
        for port in ports {
            taken.names.insert(port.name.clone());
            taken.macs.insert(port.mac);
        }
        taken
    }

    /// One for each interface of a node.
    pub(super) fn take(&mut self, node: &NodePlan) -> Vec<Port> {
        let interfaces = node.interfaces();
        let ports = interfaces.map(|interface| Port {
            interface: interface.name.clone(),
            name: self.take_name(&node.name),
            mac: self.take_mac(node.address.addr()),
        });
        ports.collect()
    }

    /// The node's own name where the kernel takes it, so that captures in the fabric read well.
    fn take_name(&mut self, node: &str) -> String {
        let own = (node.len() <= NAME_MAX && !node.starts_with("br") && node != "lo")
            .then(|| node.to_owned());
        let numbered = (0_u32..).map(|number| format!("port{number}"));
        let mut names = own.into_iter().chain(numbered);
        let free = names.find(|name| !self.names.contains(name));
        let name = free.unwrap_or_default();
        self.names.insert(name.clone());
        name
    }

    /// One that tells the address; the first letter tells apart those that were made for the
    /// same address, which may have gone from one node to another.
    fn take_mac(&mut self, address: Ipv4Addr) -> MacAddress {
        let mut macs = (b'N'..=u8::MAX).map(|kind| MacAddress::of(kind, address));
        let free = macs.find(|mac| !self.macs.contains(mac));
        let mac = free.unwrap_or(MacAddress::of(b'N', address));
        self.macs.insert(mac);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ClusterSpec;

    fn ports(taken: &mut Ports, spec: &ClusterSpec) -> Vec<Port> {
        taken.take(&spec.plan().unwrap().nodes[0])
    }

    #[test]
    fn no_two_wires_have_one_name_or_one_hardware_address() {
        let spec = ClusterSpec::default().node("n1", |n| {
            n.address("10.0.0.2/24").other_interface("eth1", |i| i)
        });
        let mut taken = Ports::default();
        let first = ports(&mut taken, &spec);
        let text: Vec<String> = first
            .iter()
            .map(|port| format!("{} {} {}", port.interface, port.name, port.mac))
            .collect();
        assert_eq!(
            text,
            ["eth0 n1 02:4e:0a:00:00:02", "eth1 port0 02:4f:0a:00:00:02"]
        );
        assert_eq!(first[1].fabric_mac().to_string(), "06:4f:0a:00:00:02");

        // Another node has the same address later: the first one may have kept its card.
        let mut taken = Ports::in_use(&first);
        let second = ports(&mut taken, &spec);
        assert_eq!(
            (second[0].name.as_str(), second[1].name.as_str()),
            ("port1", "port2")
        );
        assert!(
            second
                .iter()
                .all(|port| first.iter().all(|p| p.mac != port.mac))
        );
    }

    #[test]
    fn a_name_that_the_kernel_or_a_bridge_would_refuse_is_replaced() {
        for name in ["a-name-of-sixteen", "br0", "lo"] {
            let spec = ClusterSpec::default().node(name, |n| n.address("10.0.0.2/24"));
            assert_eq!(ports(&mut Ports::default(), &spec)[0].name, "port0");
        }
    }
}
