//! One fold per machine: its agent, its tables, its packet filter.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::{not_collected, tables};
use crate::bundle::Item;
use crate::bundle::bpf::ProgramState;
use crate::bundle::model::{AgentState, ClusterState, MachineState, ProcessState};

pub(super) fn section(cluster: &ClusterState) -> Markup {
    let way = way(cluster);
    let on_the_way = |machine: &&MachineState| way.contains(machine.name.as_str());
    let (first, others): (Vec<&MachineState>, Vec<&MachineState>) =
        cluster.machines.iter().partition(on_the_way);
    html! {
        @for state in &first { (machine(state, true)) }
        @for state in &others { (machine(state, false)) }
    }
}

/// The files that the agents read.
pub(super) fn datastore(cluster: &ClusterState) -> Markup {
    html! {
        @match &cluster.datastore {
            Item::Error(error) => p { (not_collected("datastore", error)) },
            Item::Value(files) => {
                @for (path, content) in files {
                    details { summary { code { (path) } } pre { (content) } }
                }
            }
        }
    }
}

fn way(cluster: &ClusterState) -> BTreeSet<&str> {
    let pair = cluster.pair.as_ref();
    let trace = pair.and_then(|pair| pair.trace.value());
    let taps = trace.into_iter().flat_map(|trace| &trace.taps);
    taps.filter_map(|tap| tap.split('/').next()).collect()
}

fn machine(state: &MachineState, on_the_way: bool) -> Markup {
    html! {
        details.machine {
            summary {
                (state.name)
                span.soft style="font-weight:400" {
                    " " (state.role)
                    @if let Some(address) = &state.address { " " (address) }
                    @if let Some(node) = &state.node { " on " (node) }
                }
                @if on_the_way { " " span.badge.way { "on the way" } }
                @if state.agent.as_ref().is_some_and(|agent| !agent.running) {
                    " " span.badge.bad { "no agent running" }
                }
            }
            @if let Some(agent) = &state.agent { (agent_state(agent)) }
            (tables::item("Devices", &state.links, Vec::is_empty, |links| tables::links(links)))
            (tables::item("Addresses", &state.addresses, Vec::is_empty, |addresses| html! {
                @for address in addresses {
                    code { (address.address) " " (address.interface) } br;
                }
            }))
            (tables::item("Routes", &state.routes, Vec::is_empty, |routes| tables::routes(routes)))
            (tables::item("Rules", &state.rules, Vec::is_empty, |rules| tables::rules(rules)))
            (tables::item("Neighbours", &state.neighbours, Vec::is_empty, |all| tables::neighbours(all)))
            (tables::item("Packet filter", &state.nft, |nft| nft.trim().is_empty(), |nft| html! {
                pre { (nft) }
            }))
            (tables::item("Queueing", &state.qdiscs,
                |qdiscs| qdiscs.iter().all(|qdisc| qdisc.kind == "noqueue"),
                |_| tables::qdiscs(state)))
            (tables::item("Filters of traffic control", &state.filters, Vec::is_empty,
                |filters| tables::filters(filters)))
            @if state.programs.value().is_none_or(|programs| !programs.is_empty()) {
                (tables::item("BPF programs", &state.programs, Vec::is_empty, |all| programs(all)))
            }
            (tables::item("Sockets", &state.sockets, Vec::is_empty, |all| tables::sockets(all)))
            (tables::item("Processes", &state.processes, Vec::is_empty, |all| processes(all)))
            details {
                summary { "Kernel parameters and protocol counters" }
                (tables::item("Counters", &state.counters, BTreeMap::is_empty, |all| tables::pairs(all)))
                (tables::item("Parameters", &state.sysctls, BTreeMap::is_empty, |all| tables::pairs(all)))
            }
        }
    }
}

fn agent_state(agent: &AgentState) -> Markup {
    html! {
        h3 { "Agent" }
        p {
            @if agent.running {
                "running"
                @if let Some(process) = agent.process { " as process " (process) }
            } @else {
                "not running"
            }
            @if !agent.encapsulation.is_empty() {
                ", encapsulation " (agent.encapsulation)
                @if !agent.why.is_empty() { " (" (agent.why) ")" }
            }
        }
        @if let Some(status) = &agent.status {
            (tables::item("Wanted and actual state", status, String::is_empty, |text| html! {
                pre { (text) }
            }))
        }
        details {
            summary { "Log" }
            @match &agent.log {
                Item::Value(log) => pre { (log) },
                Item::Error(error) => p { (not_collected("log", error)) },
            }
        }
    }
}

fn programs(programs: &[ProgramState]) -> Markup {
    html! {
        @for program in programs {
            p { code { (program.name) } " " span.soft { "id " (program.id) ", tag " (program.tag) } }
            @for map in &program.maps {
                details {
                    summary {
                        "map " code { (map.name) } ": " (map.entries.len()) " of "
                        (map.max_entries) " entries"
                    }
                    pre {
                        @for (key, value) in &map.entries { (key) "  " (value) "\n" }
                    }
                }
            }
        }
    }
}

fn processes(processes: &[ProcessState]) -> Markup {
    html! {
        table {
            tr { th scope="col" { "id" } th scope="col" { "state" } th scope="col" { "command" } }
            @for process in processes {
                tr {
                    td.mono { (process.id) }
                    td.mono { (process.state) }
                    td.mono { (process.command) }
                }
            }
        }
    }
}
