//! Boots a plan: namespaces, links, datastore, agents, in this order.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use ipnet::Ipv4Net;

use super::files::Files;
use super::node::{DATASTORE_IN_NODE, NodeState};
use super::pod::PodState;
use super::timing::Stopwatch;
use super::{BootReport, Cluster, Inner};
use crate::agent::{Agent, AgentStatus, RunningAgent};
use crate::datastore::Datastore;
use crate::error::Error;
use crate::machine::Machine;
use crate::namespace::{MountPlan, sandbox};
use crate::netlink::{MacAddress, NewRoute, VethEnd, VethPeer};
use crate::probe::server::hello;
use crate::spec::{NodePlan, Plan, PodPlan};

/// The device of every pod.
const POD_DEVICE: &str = "eth0";

/// Boots `plan`; on failure everything that was made is dropped, and the kernel takes it down.
pub(super) async fn boot(plan: &Plan, agent: Arc<dyn Agent>) -> Result<Cluster, Error> {
    let mut report = BootReport::default();
    let mut watch = Stopwatch::start();
    let state_dir = sandbox::state_dir()?;
    let state = tempfile::Builder::new()
        .prefix("cluster-")
        .tempdir_in(state_dir)
        .map_err(|source| Error::State {
            operation: "make a folder in",
            path: state_dir.to_owned(),
            source,
        })?;
    let files = Files::create(state.path(), plan)?;
    let datastore = Datastore::create(files.datastore())?;
    let Machines {
        fabric,
        nodes,
        pods,
    } = make_machines(plan, &files).await?;
    report.namespaces = watch.lap();

    wire_fabric(&fabric, plan).await?;
    try_join_all(
        nodes
            .iter()
            .zip(&plan.nodes)
            .map(|(node, of)| wire_node(&fabric, node, of, plan)),
    )
    .await?;
    try_join_all(
        pods.iter()
            .zip(&plan.pods)
            .map(|(pod, of)| wire_pod(&nodes[of.node], pod, of)),
    )
    .await?;
    datastore.fill(plan)?;
    report.links = watch.lap();

    let pods = pods.into_iter().zip(&plan.pods);
    let pods = pods
        .map(|(pod, of)| start_pod(pod, of))
        .collect::<Result<Vec<_>, _>>()?;
    let mut agents = Vec::new();
    for node in &nodes {
        agents.push(RunningAgent::start(
            agent.as_ref(),
            node.name(),
            node.namespaces(),
            Path::new(DATASTORE_IN_NODE),
            &files.agent_log(node.name()),
        )?);
    }
    report.agents = watch.lap();

    let statuses = try_join_all(agents.iter_mut().map(RunningAgent::ready)).await?;
    report.ready = watch.lap();

    let nodes = nodes
        .into_iter()
        .zip(&plan.nodes)
        .zip(agents.into_iter().zip(statuses));
    let nodes = nodes.map(|((machine, of), agent)| node_state(machine, of, agent, &files));
    Ok(Cluster {
        inner: Arc::new(Inner {
            nodes: nodes.collect(),
            fabric,
            pods,
            agent,
            datastore,
            report,
            _state: state,
        }),
    })
}

struct Machines {
    fabric: Machine,
    nodes: Vec<Machine>,
    pods: Vec<Machine>,
}

/// Makes the namespaces of all machines.
async fn make_machines(plan: &Plan, files: &Files) -> Result<Machines, Error> {
    let mut wanted = vec![("fabric".to_owned(), MountPlan::default())];
    for node in &plan.nodes {
        wanted.push((node.name.clone(), files.node_mounts(&node.name)?));
    }
    for pod in &plan.pods {
        wanted.push((pod.name.clone(), files.pod_mounts(pod)?));
    }
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let made = Machine::create_namespaces(wanted).await?;
    // Only the fabric forwards from the start: nodes are told to by their agents, pods never do.
    let machines = names.iter().zip(made).enumerate();
    let mut machines = machines
        .map(|(index, (name, namespaces))| Machine::new(name, namespaces, index == 0))
        .collect::<Result<Vec<_>, _>>()?;
    let pods = machines.split_off(1 + plan.nodes.len());
    let nodes = machines.split_off(1);
    let fabric = machines.remove(0);
    Ok(Machines {
        fabric,
        nodes,
        pods,
    })
}

/// One bridge for each underlay network, with the gateway's address.
async fn wire_fabric(fabric: &Machine, plan: &Plan) -> Result<(), Error> {
    let netlink = fabric.netlink();
    netlink.set_link_up("lo", true).await?;
    for underlay in &plan.underlays {
        netlink.add_bridge(&underlay.bridge, underlay.mtu).await?;
        let index = netlink.link_index(&underlay.bridge).await?;
        netlink.add_address(index, underlay.gateway).await?;
    }
    Ok(())
}

/// A node's underlay interface, its address and its default route.
async fn wire_node(
    fabric: &Machine,
    node: &Machine,
    of: &NodePlan,
    plan: &Plan,
) -> Result<(), Error> {
    let underlay = &plan.underlays[of.underlay];
    let bridge = fabric.netlink().link_index(&underlay.bridge).await?;
    let end = VethEnd {
        name: &of.port,
        // The port is a switch's: nobody on the network sees its address.
        mac: MacAddress::of(b'F', of.address.addr()),
        mtu: underlay.mtu.max(of.mtu),
        master: Some(bridge),
    };
    let peer = VethPeer {
        name: &of.interface,
        mac: of.mac(),
        mtu: of.mtu,
        namespace: node.namespaces().net_fd(),
    };
    fabric.netlink().add_veth(end, peer).await?;
    let netlink = node.netlink();
    netlink.set_link_up("lo", true).await?;
    netlink.set_link_up(&of.interface, true).await?;
    let interface = netlink.link_index(&of.interface).await?;
    netlink.add_address(interface, of.address).await?;
    let default = NewRoute {
        destination: Ipv4Net::default(),
        gateway: Some(underlay.gateway.addr()),
        interface,
    };
    Ok(netlink.add_route(default).await?)
}

/// A pod's veth pair and routes, as Calico's CNI plugin makes them: the address as /32, and a
/// gateway 169.254.1.1 that nobody has; the node answers for it by proxy ARP.
async fn wire_pod(node: &Machine, pod: &Machine, of: &PodPlan) -> Result<(), Error> {
    const GATEWAY: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 1, 1);
    let end = VethEnd {
        name: &of.host_interface(),
        mac: MacAddress::CALI,
        mtu: of.mtu,
        master: None,
    };
    let peer = VethPeer {
        name: POD_DEVICE,
        mac: of.mac(),
        mtu: of.mtu,
        namespace: pod.namespaces().net_fd(),
    };
    node.netlink().add_veth(end, peer).await?;
    let netlink = pod.netlink();
    netlink.set_link_up("lo", true).await?;
    netlink.set_link_up(POD_DEVICE, true).await?;
    let interface = netlink.link_index(POD_DEVICE).await?;
    netlink
        .add_address(interface, Ipv4Net::from(of.address))
        .await?;
    let link = NewRoute {
        destination: Ipv4Net::from(GATEWAY),
        gateway: None,
        interface,
    };
    netlink.add_route(link).await?;
    let default = NewRoute {
        destination: Ipv4Net::default(),
        gateway: Some(GATEWAY),
        interface,
    };
    Ok(netlink.add_route(default).await?)
}

/// The servers of a pod's containers.
fn start_pod(machine: Machine, of: &PodPlan) -> Result<PodState, Error> {
    let servers = of.containers.iter().map(|container| match container.http {
        Some(port) => machine.serve_http(port, hello(&of.name)).map(Some),
        None => Ok(None),
    });
    let servers = servers.collect::<Result<Vec<_>, _>>()?;
    Ok(PodState {
        machine,
        plan: of.clone(),
        servers,
    })
}

fn node_state(
    machine: Machine,
    of: &NodePlan,
    (agent, status): (RunningAgent, AgentStatus),
    files: &Files,
) -> NodeState {
    NodeState {
        log: files.agent_log(machine.name()),
        machine,
        plan: of.clone(),
        agent: Mutex::new(Some(agent)),
        status: Mutex::new(status),
    }
}
