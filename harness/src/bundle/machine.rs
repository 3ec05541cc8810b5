//! Collects what the kernel has of one machine.

use std::io;

use super::model::{AgentState, LinkState, MachineState, ProcessState};
use super::{Item, bpf, parameters, sockets};
use crate::cluster::{Node, Pod};
use crate::error::Error;
use crate::event::Role;
use crate::machine::Machine;
use crate::process::{Program, processes_in};

pub(super) async fn fabric(machine: &Machine) -> MachineState {
    collect(machine, Role::Fabric).await
}

pub(super) async fn node(node: &Node) -> MachineState {
    let mut state = collect(node, Role::Node).await;
    state.address = Some(node.address().to_string());
    state.attached_by = Some(node.underlay());
    state.fabric_port = Some(node.fabric_port());
    state.blocks = node.blocks().iter().map(ToString::to_string).collect();
    state.agent = Some(agent(node).await);
    state
}

pub(super) async fn pod(pod: &Pod) -> MachineState {
    let mut state = collect(pod, Role::Pod).await;
    state.node = Some(pod.node().name().to_owned());
    state.address = Some(pod.address().to_string());
    state.attached_by = Some(pod.host_interface());
    state
}

async fn collect(machine: &Machine, role: Role) -> MachineState {
    let netlink = machine.netlink();
    // First: what is started below is not the test's.
    let processes = processes(machine).await;
    let traffic = async {
        let filters = Item::collect(netlink.filters()).await;
        let ids = filters.value().cloned().unwrap_or_default();
        let ids: Vec<u32> = ids.iter().filter_map(|filter| filter.program_id).collect();
        let programs = move || ids.into_iter().map(bpf::program).collect::<io::Result<_>>();
        (filters, Item::on_thread(programs).await)
    };
    let by_netlink = async {
        tokio::join!(
            Item::collect(links(machine)),
            Item::collect(netlink.addresses()),
            Item::collect(netlink.all_routes()),
            Item::collect(netlink.rules()),
            Item::collect(netlink.neighbours()),
            Item::collect(netlink.qdiscs()),
        )
    };
    // Side by side: what hangs takes no more time than one thing may.
    let (by_netlink, traffic, nft, sysctls, counters, sockets) = tokio::join!(
        by_netlink,
        traffic,
        Item::collect(nft(machine)),
        inside(machine, parameters::read),
        inside(machine, parameters::counters),
        inside(machine, sockets::read),
    );
    let (links, addresses, routes, rules, neighbours, qdiscs) = by_netlink;
    let (filters, programs) = traffic;
    MachineState {
        name: machine.name().to_owned(),
        role,
        node: None,
        address: None,
        attached_by: None,
        fabric_port: None,
        blocks: Vec::new(),
        agent: None,
        links,
        addresses,
        routes,
        rules,
        neighbours,
        nft,
        qdiscs,
        filters,
        programs,
        sysctls,
        counters,
        sockets,
        processes,
    }
}

async fn links(machine: &Machine) -> Result<Vec<LinkState>, Error> {
    let links = machine.netlink().links().await?;
    let statistics = machine.netlink().statistics().await?;
    let states = links.into_iter().map(|link| LinkState {
        statistics: statistics.get(&link.index).copied().unwrap_or_default(),
        link,
    });
    Ok(states.collect())
}

async fn nft(machine: &Machine) -> Result<String, Error> {
    let listed = machine.quiet_exec("nft list ruleset").await?;
    Ok(listed.success()?.stdout)
}

/// Runs `read` on a thread that stands in the machine's network.
async fn inside<T: Send + 'static>(
    machine: &Machine,
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Item<T> {
    let namespaces = machine.namespaces().clone();
    Item::on_thread(move || match namespaces.run(read) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    })
    .await
}

async fn processes(machine: &Machine) -> Item<Vec<ProcessState>> {
    let inode = machine.namespaces().net_inode();
    Item::on_thread(move || {
        let ids = processes_in(&[inode].into()).into_iter();
        let states = ids.filter_map(|id| {
            let read = |name| std::fs::read_to_string(format!("/proc/{id}/{name}"));
            // One that ends this instant is no process any more.
            let (status, command) = (read("status").ok()?, read("cmdline").ok()?);
            let mut lines = status.lines();
            let state = lines.find_map(|line| line.strip_prefix("State:"))?;
            Some(ProcessState {
                id: id.as_raw(),
                state: state.trim().to_owned(),
                command: command.replace('\0', " ").trim().to_owned(),
            })
        });
        Ok::<_, String>(states.collect())
    })
    .await
}

async fn agent(node: &Node) -> AgentState {
    let said = node.agent_status();
    let status = match node.agent_status_program() {
        Some(program) => Some(Item::collect(status(node, program)).await),
        None => None,
    };
    AgentState {
        running: node.is_agent_running(),
        process: node.agent_id(),
        encapsulation: said.encapsulation,
        why: said.why,
        log: Item::collect(async { node.agent_log() }).await,
        status,
    }
}

/// What the agent's own command prints. It may say by its exit code that something differs.
async fn status(node: &Node, program: Program) -> Result<String, Error> {
    let output = node.quiet_exec(program).await?;
    Ok(match output.stderr.is_empty() {
        true => output.stdout,
        false => format!("{}{}", output.stdout, output.stderr),
    })
}
