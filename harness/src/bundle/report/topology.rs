//! The cluster as a picture: networks on top, nodes below them with their pods inside.

use std::collections::BTreeSet;

use maud::{Markup, html};

use crate::bundle::model::{ClusterState, MachineState, TraceState};
use crate::event::Role;

const NODE_WIDTH: usize = 290;
const GAP: usize = 36;
const PER_ROW: usize = 4;
const BUS: usize = 30;
const TOP: usize = 14;
const POD: usize = 30;
const NODE_HEAD: usize = 62;
/// Nodes that are drawn; a larger cluster would be a wallpaper.
const NODES: usize = 24;
/// Pods that are drawn of one node.
const PODS: usize = 8;
/// How wide a character is at most on average, in tenths of a pixel: of names, of names of nodes,
/// of other words, and of addresses, whose characters are all as wide.
const NAME: usize = 75;
const STRONG: usize = 85;
const WORD: usize = 65;
const MONO: usize = 67;

pub(super) fn section(cluster: &ClusterState) -> Markup {
    let nodes: Vec<&MachineState> = of(cluster, Role::Node).collect();
    let shown = way(cluster);
    // A large cluster is cut to what matters: the nodes of the way first.
    let mut drawn = nodes.clone();
    drawn.sort_by_key(|node| !shown.machines.contains(&node.name));
    drawn.truncate(NODES);
    let left_out = nodes.len() - drawn.len();
    if left_out == 0 {
        drawn = nodes;
    }
    html! {
        div.scroll tabindex="0" { (picture(cluster, &drawn, &shown)) }
        @if left_out > 0 { p.soft { (left_out) " more nodes are not drawn." } }
        @if !shown.machines.is_empty() {
            p.legend aria-hidden="true" {
                span { i style="background:var(--way-fill);border-color:var(--way)" {} "on the way of the pair" }
                @if shown.wrong.is_some() {
                    span { i style="border-color:var(--bad);border-style:dashed" {} "where it went wrong" }
                }
            }
        }
    }
}

/// What of the way a picture shows.
#[derive(Default)]
struct Way {
    machines: BTreeSet<String>,
    /// The machine at fault.
    at_fault: Option<String>,
    /// The machines on both sides of where it went wrong; the same twice when it is inside one.
    wrong: Option<(String, String)>,
}

fn way(cluster: &ClusterState) -> Way {
    let Some(pair) = &cluster.pair else {
        return Way::default();
    };
    let machine = |tap: &String| tap.split('/').next().unwrap_or_default().to_owned();
    let Some(trace) = pair.trace.value() else {
        return Way {
            machines: [pair.from.clone(), pair.to.clone()].into(),
            ..Way::default()
        };
    };
    Way {
        machines: trace.taps.iter().map(machine).collect(),
        at_fault: trace.machine.clone(),
        wrong: wrong(trace),
    }
}

fn wrong(trace: &TraceState) -> Option<(String, String)> {
    let stretch = trace.stretch.as_ref()?;
    let machine = |point: &Option<crate::trace::Point>| Some(point.as_ref()?.machine.clone());
    match (machine(&stretch.after), machine(&stretch.before)) {
        (Some(after), Some(before)) => Some((after, before)),
        (Some(one), None) | (None, Some(one)) => Some((one.clone(), one)),
        (None, None) => None,
    }
}

impl Way {
    fn has(&self, name: &str) -> bool {
        self.machines.contains(name)
    }

    /// Whether it went wrong between these two, or inside the one that is both.
    fn is_wrong(&self, one: &str, other: &str) -> bool {
        let Some((after, before)) = &self.wrong else {
            return false;
        };
        (after == one && before == other) || (after == other && before == one)
    }

    fn class(&self, kind: &str, one: &str, other: &str) -> String {
        let state = if self.is_wrong(one, other) {
            " bad"
        } else if self.has(one) && self.has(other) {
            " way"
        } else {
            ""
        };
        format!("{kind}{state}")
    }
}

fn picture(cluster: &ClusterState, nodes: &[&MachineState], way: &Way) -> Markup {
    let buses = buses(cluster);
    let columns = nodes.len().clamp(1, PER_ROW);
    let width = (columns * (NODE_WIDTH + GAP) + GAP).max(420);
    let bus_height = buses.len().max(1) * (BUS + 12);
    let heights: Vec<usize> = nodes
        .chunks(PER_ROW)
        .map(|row| {
            row.iter()
                .map(|node| node_height(cluster, node))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let tops: Vec<usize> = heights
        .iter()
        .scan(TOP + bus_height + 34, |top, height| {
            let own = *top;
            *top += height + 34;
            Some(own)
        })
        .collect();
    let height = tops
        .last()
        .zip(heights.last())
        .map_or(120, |(top, last)| top + last + 12);
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) role="img"
            aria-labelledby=(format!("topology-picture-{}", cluster.number)) {
            title id=(format!("topology-picture-{}", cluster.number)) {
                (nodes.len()) " nodes with their pods on " (buses.len()) " underlay networks"
            }
            // Wires first: boxes lie over them.
            @for (index, node) in nodes.iter().enumerate() {
                (wire(&buses, index, node, &tops, way))
            }
            @for (row, bus) in buses.iter().enumerate() {
                @let y = TOP + row * (BUS + 12);
                rect class=(if way.at_fault.as_deref() == Some("fabric") { "bus bad" } else { "bus" }) x=(GAP / 2) y=(y) width=(width - GAP) height=(BUS) rx="8" {}
                text.strong x=(GAP / 2 + 14) y=(y + 20) { (bus.name) }
                text.mono x=(GAP / 2 + 74) y=(y + 20) { (bus.address) }
            }
            @for (index, node) in nodes.iter().enumerate() {
                @let x = GAP + index % PER_ROW * (NODE_WIDTH + GAP);
                (node_box(cluster, node, x, tops[index / PER_ROW], way))
            }
        }
    }
}

fn wire(buses: &[Bus], index: usize, node: &MachineState, tops: &[usize], way: &Way) -> Markup {
    let x = GAP + index % PER_ROW * (NODE_WIDTH + GAP);
    let top = tops[index / PER_ROW];
    let bus = buses.iter().position(|bus| {
        node.fabric_port
            .as_ref()
            .is_some_and(|port| bus.ports.contains(port))
    });
    let from = TOP + bus.unwrap_or(0) * (BUS + 12) + BUS;
    let class = way.class("wire", &node.name, "fabric");
    let device = node.attached_by.as_deref().unwrap_or_default();
    let port = node.fabric_port.as_deref().unwrap_or_default();
    let title = html! { title { (node.name) "/" (device) " – fabric/" (port) } };
    html! {
        @if index < PER_ROW {
            @let middle = x + NODE_WIDTH / 2;
            line class=(class) x1=(middle) x2=(middle) y1=(from) y2=(top) { (title) }
            text.mono x=(middle + 8) y=(top - 8) { (device) }
        } @else {
            // Rows further down are reached through the gap beside the boxes.
            @let gap = x - GAP / 2;
            polyline class=(class) points=(format!("{gap},{from} {gap},{} {x},{}", top + 20, top + 20)) {
                (title)
            }
            text.mono x=(x + 4) y=(top - 6) { (device) }
        }
    }
}

fn node_box(cluster: &ClusterState, node: &MachineState, x: usize, y: usize, way: &Way) -> Markup {
    let pods: Vec<&MachineState> = pods(cluster, node).collect();
    let at_fault = way.at_fault.as_ref() == Some(&node.name);
    let class = match at_fault || way.is_wrong(&node.name, &node.name) {
        true => "box bad".to_owned(),
        false if way.has(&node.name) => "box way".to_owned(),
        false => "box".to_owned(),
    };
    let agent = node.agent.as_ref();
    let (word, agent_class) = match agent {
        Some(agent) if agent.running && agent.encapsulation.is_empty() => {
            ("agent running".to_owned(), "goodtext")
        }
        Some(agent) if agent.running => (format!("agent: {}", agent.encapsulation), "goodtext"),
        _ => ("no agent running".to_owned(), "badtext"),
    };
    html! {
        rect class=(class) x=(x) y=(y) width=(NODE_WIDTH) height=(node_height(cluster, node)) rx="10" {}
        (shortened("strong", [x + 14, y + 22], &node.name, STRONG, NODE_WIDTH - 26, word.len() * WORD))
        text.mono x=(x + 14) y=(y + 39) { (node.address.as_deref().unwrap_or_default()) }
        text class=(agent_class) x=(x + NODE_WIDTH - 12) y=(y + 22) text-anchor="end" font-size="11" {
            (word)
        }
        text.small x=(x + NODE_WIDTH - 12) y=(y + 39) text-anchor="end" { (node.blocks.join(" ")) }
        @for (place, pod) in pods.iter().take(PODS).enumerate() {
            @let top = y + NODE_HEAD + place * POD - 8;
            line class=(way.class("wire", &pod.name, &node.name))
                x1=(x) x2=(x + 14) y1=(top + 12) y2=(top + 12) {
                title {
                    (pod.name) "/eth0 – " (node.name) "/" (pod.attached_by.as_deref().unwrap_or_default())
                }
            }
            rect class=(way.class("pod", &pod.name, &pod.name))
                x=(x + 14) y=(top) width=(NODE_WIDTH - 28) height=(POD - 6) rx="6" {}
            @let address = pod.address.as_deref().unwrap_or_default();
            (shortened("name", [x + 24, top + 16], &pod.name, NAME, NODE_WIDTH - 48, address.len() * MONO))
            text.mono x=(x + NODE_WIDTH - 24) y=(top + 16) text-anchor="end" { (address) }
        }
        @if pods.len() > PODS {
            text.small x=(x + 24) y=(y + NODE_HEAD + PODS * POD + 8) {
                "and " (pods.len() - PODS) " more pods"
            }
        }
    }
}

/// A name beside what stands at the right end of the same line and takes `taken` tenths of a
/// pixel. One that would run into it is cut; the whole of it shows under the mouse.
fn shortened(
    class: &str,
    [x, y]: [usize; 2],
    name: &str,
    character: usize,
    line: usize,
    taken: usize,
) -> Markup {
    let fits = fitting(name, (line * 10).saturating_sub(taken + NAME) / character);
    html! {
        text class=(class) x=(x) y=(y) {
            @if fits != name { title { (name) } }
            (fits)
        }
    }
}

/// As much of a text as has room for so many characters, with a sign that it goes on.
fn fitting(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let kept = text.chars().take(characters.saturating_sub(1));
    kept.chain(['…']).collect()
}

fn node_height(cluster: &ClusterState, node: &MachineState) -> usize {
    let pods = pods(cluster, node).count();
    NODE_HEAD + pods.min(PODS) * POD + if pods > PODS { 20 } else { 0 }
}

/// A network of the fabric.
struct Bus {
    name: String,
    address: String,
    ports: BTreeSet<String>,
}

fn buses(cluster: &ClusterState) -> Vec<Bus> {
    let Some(fabric) = of(cluster, Role::Fabric).next() else {
        return Vec::new();
    };
    let links = fabric.links.value().map(Vec::as_slice).unwrap_or_default();
    let addresses = fabric
        .addresses
        .value()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let bridges = links
        .iter()
        .filter(|link| link.link.kind.as_deref() == Some("bridge"));
    let buses = bridges.map(|bridge| {
        let own = addresses.iter().filter(|a| a.interface == bridge.link.name);
        let ports = links
            .iter()
            .filter(|port| port.link.master == Some(bridge.link.index));
        Bus {
            name: bridge.link.name.clone(),
            address: own
                .map(|a| a.address.to_string())
                .collect::<Vec<_>>()
                .join(" "),
            ports: ports.map(|port| port.link.name.clone()).collect(),
        }
    });
    buses.collect()
}

fn pods<'a>(
    cluster: &'a ClusterState,
    node: &'a MachineState,
) -> impl Iterator<Item = &'a MachineState> {
    of(cluster, Role::Pod).filter(|pod| pod.node.as_ref() == Some(&node.name))
}

fn of(cluster: &ClusterState, role: Role) -> impl Iterator<Item = &MachineState> {
    cluster
        .machines
        .iter()
        .filter(move |machine| machine.role == role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_run_into_its_address_is_cut_and_told_in_full() {
        let line = NODE_WIDTH - 48;
        let taken = "192.168.200.100".len() * MONO;
        let shown = |name: &str| shortened("name", [0, 0], name, NAME, line, taken).into_string();
        assert_eq!(
            shown("echo-server"),
            r#"<text class="name" x="0" y="0">echo-server</text>"#
        );
        let long = "c2c-network-demo-of-the-second-worker";
        let text = shown(long);
        assert!(text.contains(&format!("<title>{long}</title>")), "{text}");
        let cut = text.split("</title>").nth(1).unwrap();
        let cut = cut.strip_suffix("…</text>").unwrap();
        assert!(long.starts_with(cut) && !cut.is_empty(), "{text}");
        assert!((cut.len() + 1) * NAME + taken <= line * 10, "{text}");
    }
}
