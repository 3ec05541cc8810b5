//! The links of a cluster: bridges in the fabric, wires to the nodes, veth pairs of the pods.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::node::NodeState;
use super::port::Port;
use crate::error::Error;
use crate::machine::Machine;
use crate::netlink::{MacAddress, NewRoute, VethEnd, VethPeer};
use crate::spec::{InterfacePlan, NodePlan, Plan, PodPlan, UnderlayPlan};

/// The device of every pod.
pub(super) const POD_DEVICE: &str = "eth0";

/// One bridge for an underlay network, with the gateway's address.
pub(super) async fn add_bridge(fabric: &Machine, underlay: &UnderlayPlan) -> Result<(), Error> {
    let netlink = fabric.netlink();
    netlink.add_bridge(&underlay.bridge, underlay.mtu).await?;
    // A bridge that was told its MTU keeps it; any other takes that of its narrowest port, whenever
    // one changes.
    netlink.set_link_mtu(&underlay.bridge, underlay.mtu).await?;
    let index = netlink.link_index(&underlay.bridge).await?;
    Ok(netlink.add_address(index, underlay.gateway).await?)
}

/// The interfaces of a new node, their addresses and the default route.
pub(super) async fn wire_node(
    fabric: &Machine,
    node: &NodeState,
    of: &NodePlan,
    plan: &Plan,
) -> Result<(), Error> {
    let netlink = node.machine.netlink();
    netlink.set_link_up("lo", true).await?;
    for (interface, port) in of.interfaces().zip(&node.ports) {
        plug_in(fabric, &node.machine, interface, port, plan).await?;
        netlink.set_link_up(&interface.name, true).await?;
        fabric.netlink().await_carrier(&port.name).await?;
        if let Some(address) = interface.address {
            let index = netlink.link_index(&interface.name).await?;
            netlink.add_address(index, address).await?;
        }
    }
    if !of.others.is_empty() {
        answer_each_for_itself(&node.machine, of)?;
    }
    route_by_gateway(&node.machine, of, plan).await
}

/// The wire between an interface of a node and the bridge of its network.
async fn plug_in(
    fabric: &Machine,
    node: &Machine,
    interface: &InterfacePlan,
    port: &Port,
    plan: &Plan,
) -> Result<(), Error> {
    let underlay = &plan.underlays[interface.network];
    let bridge = fabric.netlink().link_index(&underlay.bridge).await?;
    let end = VethEnd {
        name: &port.name,
        mac: port.fabric_mac(),
        mtu: port_mtu(underlay, interface),
        master: Some(bridge),
    };
    let peer = VethPeer {
        name: &interface.name,
        mac: port.mac,
        mtu: interface.mtu,
        namespace: node.namespaces().net_fd(),
    };
    Ok(fabric.netlink().add_veth(end, peer).await?)
}

/// A switch carries what any of its ports may send.
fn port_mtu(underlay: &UnderlayPlan, interface: &InterfacePlan) -> u32 {
    underlay.mtu.max(interface.mtu)
}

/// With two interfaces on one network Linux answers ARP requests on both for the addresses of
/// either, and packets arrive where nobody expects them. Whoever runs such machines turns it off.
fn answer_each_for_itself(node: &Machine, of: &NodePlan) -> Result<(), Error> {
    for interface in of.interfaces() {
        node.set_device_parameter(&interface.name, "arp_ignore", "1")?;
        node.set_device_parameter(&interface.name, "arp_announce", "2")?;
    }
    Ok(())
}

/// The default route, by the gateway of the network that the node's address is in.
async fn route_by_gateway(node: &Machine, of: &NodePlan, plan: &Plan) -> Result<(), Error> {
    let netlink = node.netlink();
    let default = NewRoute {
        destination: Ipv4Net::default(),
        gateway: Some(plan.underlays[of.underlay.network].gateway.addr()),
        interface: netlink.link_index(&of.underlay.name).await?,
    };
    Ok(netlink.replace_route(default).await?)
}

/// Makes bridge and ports as wide as the plan says.
pub(super) async fn widen(
    fabric: &Machine,
    underlay: &UnderlayPlan,
    ports: &[(Port, &InterfacePlan)],
) -> Result<(), Error> {
    for (port, interface) in ports {
        let mtu = port_mtu(underlay, interface);
        fabric.netlink().set_link_mtu(&port.name, mtu).await?;
    }
    let netlink = fabric.netlink();
    Ok(netlink.set_link_mtu(&underlay.bridge, underlay.mtu).await?)
}

/// Changes the interfaces of a running node from what `before` says to `after`; both have the
/// same interfaces.
pub(super) async fn rewire_node(
    fabric: &Machine,
    node: &NodeState,
    (before, before_plan): (&NodePlan, &Plan),
    (after, plan): (&NodePlan, &Plan),
) -> Result<(), Error> {
    let netlink = node.machine.live()?.netlink();
    let was = |name: &str| before.interfaces().find(|interface| interface.name == name);
    for interface in after.interfaces() {
        let Some(was) = was(&interface.name) else {
            continue;
        };
        if was.mtu != interface.mtu {
            netlink.set_link_mtu(&interface.name, interface.mtu).await?;
        }
        if was.network != interface.network
            && let Some(port) = node.port(&interface.name)
        {
            let bridge = &plan.underlays[interface.network].bridge;
            let bridge = fabric.netlink().link_index(bridge).await?;
            fabric.netlink().set_link_master(&port.name, bridge).await?;
        }
        if let Some(address) = was.address.filter(|_| was.address != interface.address) {
            let index = netlink.link_index(&interface.name).await?;
            netlink.remove_address(index, address).await?;
        }
    }
    // An address may have gone from one interface to another: first all go, then all come.
    for interface in after.interfaces() {
        let was = was(&interface.name).and_then(|was| was.address);
        if let Some(address) = interface.address.filter(|_| was != interface.address) {
            let index = netlink.link_index(&interface.name).await?;
            netlink.add_address(index, address).await?;
            announce(node, &interface.name).await?;
        }
    }
    let way = |of: &NodePlan, plan: &Plan| {
        let gateway = plan.underlays[of.underlay.network].gateway;
        (of.underlay.name.clone(), of.underlay.address, gateway)
    };
    // The kernel has dropped the route with the address.
    if way(before, before_plan) != way(after, plan) {
        route_by_gateway(&node.machine, after, plan).await?;
    }
    Ok(())
}

/// Tells the network by ARP where the addresses of an interface are now, as a network manager
/// does: neighbours would go on sending to where they were.
pub(super) async fn announce(node: &NodeState, interface: &str) -> Result<(), Error> {
    let Some(port) = node.port(interface) else {
        return Ok(());
    };
    // With this parameter the kernel announces the addresses of an interface whose hardware
    // address is set, even to what it was; it does so before it answers.
    let name = format!("conf/{interface}/arp_notify");
    let before = node.machine.parameters(vec![name.clone()])?;
    node.machine.set_parameter(&name, "1")?;
    let netlink = node.machine.netlink();
    let announced = netlink.set_link_mac(interface, port.mac).await;
    for (name, value) in before {
        node.machine.set_parameter(&name, &value)?;
    }
    Ok(announced?)
}

/// A pod's veth pair and routes, as Calico's CNI plugin makes them: the address as /32, and a
/// gateway 169.254.1.1 that nobody has; the node answers for it by proxy ARP.
pub(super) async fn wire_pod(
    node: &Machine,
    pod: &Machine,
    of: &PodPlan,
    mtu: u32,
) -> Result<(), Error> {
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
    let end = VethEnd {
        name: &of.host_interface(),
        mac: MacAddress::CALI,
        mtu,
        master: None,
    };
    let peer = VethPeer {
        name: POD_DEVICE,
        mac: of.mac(),
        mtu,
        namespace: pod.namespaces().net_fd(),
    };
    node.live()?.netlink().add_veth(end, peer).await?;
    let netlink = pod.netlink();
    netlink.set_link_up("lo", true).await?;
    netlink.set_link_up(POD_DEVICE, true).await?;
    node.netlink().await_carrier(&of.host_interface()).await?;
    let interface = netlink.link_index(POD_DEVICE).await?;
    netlink
        .add_address(interface, Ipv4Net::from(of.address))
        .await?;
    let link = NewRoute {
        destination: Ipv4Net::from(GATEWAY),
        gateway: None,
        interface,
    };
    netlink.replace_route(link).await?;
    let default = NewRoute {
        destination: Ipv4Net::default(),
        gateway: Some(GATEWAY),
        interface,
    };
    Ok(netlink.replace_route(default).await?)
}

/// Removes a pod's veth pair, from the pod's side: a test may have renamed the other.
pub(super) async fn unwire_pod(pod: &Machine) -> Result<(), Error> {
    Ok(pod.netlink().remove_link(POD_DEVICE).await?)
}
