//! What the kernel has of a machine, as tables.

use maud::{Markup, html};

use super::not_collected;
use crate::bundle::Item;
use crate::bundle::model::{LinkState, MachineState};
use crate::bundle::sockets::SocketState;
use crate::netlink::{Neighbour, RouteKind, Rule, TableRoute, TrafficFilter};

/// One collected thing under its name; an empty one is told in a word.
pub(super) fn item<T>(
    name: &str,
    item: &Item<T>,
    is_empty: impl FnOnce(&T) -> bool,
    show: impl FnOnce(&T) -> Markup,
) -> Markup {
    html! {
        h3 { (name) }
        @match item {
            Item::Error(error) => p { (not_collected(name, error)) },
            Item::Value(value) if is_empty(value) => p.soft { "none" },
            Item::Value(value) => div.scroll tabindex="0" { (show(value)) },
        }
    }
}

/// Rows of cells under heads; what comes after `·` in a head is a unit.
fn table<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Markup {
    html! {
        table {
            tr { @for head in heads { th scope="col" { (head) } } }
            @for row in rows {
                tr { @for cell in row { td.mono { (cell) } } }
            }
        }
    }
}

pub(super) fn links(links: &[LinkState]) -> Markup {
    let heads = [
        "device",
        "kind",
        "state",
        "MTU",
        "MAC",
        "rx packets",
        "rx dropped",
        "tx packets",
        "tx dropped",
        "errors",
    ];
    let rows = links.iter().map(|state| {
        let (link, counted) = (&state.link, &state.statistics);
        let running = match (link.up, link.running) {
            (true, true) => "up",
            (true, false) => "no carrier",
            (false, _) => "DOWN",
        };
        let errors = counted.rx_errors + counted.tx_errors + counted.tx_carrier_errors;
        [
            link.name.clone(),
            link.kind.clone().unwrap_or_default(),
            running.to_owned(),
            link.mtu.to_string(),
            link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            counted.rx_packets.to_string(),
            counted.rx_dropped.to_string(),
            counted.tx_packets.to_string(),
            counted.tx_dropped.to_string(),
            errors.to_string(),
        ]
    });
    table(heads, rows)
}

pub(super) fn routes(routes: &[TableRoute]) -> Markup {
    let heads = [
        "table",
        "destination",
        "kind",
        "via",
        "device",
        "source",
        "protocol",
        "flags",
    ];
    let rows = routes.iter().map(|TableRoute { table, route }| {
        let mut flags = Vec::new();
        flags.extend(route.onlink.then(|| "onlink".to_owned()));
        flags.extend((route.metric > 0).then(|| format!("metric {}", route.metric)));
        flags.extend(route.mtu.map(|mtu| format!("mtu {mtu}")));
        [
            table_name(*table),
            route.destination.to_string(),
            kind(route.kind),
            route
                .gateway
                .map(|gateway| gateway.to_string())
                .unwrap_or_default(),
            route.interface.clone().unwrap_or_default(),
            route
                .source
                .map(|source| source.to_string())
                .unwrap_or_default(),
            protocol_name(route.protocol.0),
            flags.join(" "),
        ]
    });
    table(heads, rows)
}

fn table_name(table: u32) -> String {
    match table {
        255 => "local".to_owned(),
        254 => "main".to_owned(),
        253 => "default".to_owned(),
        other => other.to_string(),
    }
}

/// With the words of `ip route` for what the kernel makes by itself.
fn kind(kind: RouteKind) -> String {
    match kind {
        RouteKind::Other(2) => "local".to_owned(),
        RouteKind::Other(3) => "broadcast".to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    }
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        2 => "kernel".to_owned(),
        3 => "boot".to_owned(),
        4 => "static".to_owned(),
        80 => "80 (Calico's)".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn rules(rules: &[Rule]) -> Markup {
    let heads = ["priority", "from", "to", "mark", "devices", "action"];
    let rows = rules.iter().map(|rule| {
        let net = |net: Option<ipnet::Ipv4Net>| net.map_or("all".to_owned(), |net| net.to_string());
        let devices = [("in", &rule.incoming), ("out", &rule.outgoing)];
        let devices = devices.into_iter();
        let devices = devices.filter_map(|(way, name)| Some(format!("{way} {}", name.as_ref()?)));
        let inverted = if rule.inverted { "not " } else { "" };
        [
            rule.priority.to_string(),
            format!("{inverted}{}", net(rule.source)),
            net(rule.destination),
            rule.mark
                .map(|(mark, mask)| format!("{mark:#x}/{mask:#x}"))
                .unwrap_or_default(),
            devices.collect::<Vec<_>>().join(" "),
            format!("{} {}", rule.action, table_name(rule.table)),
        ]
    });
    table(heads, rows)
}

pub(super) fn neighbours(neighbours: &[Neighbour]) -> Markup {
    let rows = neighbours.iter().map(|neighbour| {
        [
            neighbour.address.to_string(),
            neighbour.interface.clone(),
            neighbour.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            format!("{:?}", neighbour.state).to_lowercase(),
        ]
    });
    table(["address", "device", "MAC", "state"], rows)
}

pub(super) fn filters(filters: &[TrafficFilter]) -> Markup {
    let rows = filters.iter().map(|filter| {
        [
            filter.interface.clone(),
            filter.direction.to_owned(),
            filter.kind.clone(),
            filter.priority.to_string(),
            filter.program.clone().unwrap_or_default(),
            filter
                .program_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
        ]
    });
    table(
        ["device", "direction", "kind", "priority", "program", "id"],
        rows,
    )
}

pub(super) fn qdiscs(machine: &MachineState) -> Markup {
    let shown = machine
        .qdiscs
        .value()
        .map(Vec::as_slice)
        .unwrap_or_default();
    // `noqueue` is what every virtual device has and says nothing.
    let rows = shown
        .iter()
        .filter(|qdisc| qdisc.kind != "noqueue")
        .map(|qdisc| {
            [
                qdisc.interface.clone(),
                qdisc.kind.clone(),
                qdisc.packets.to_string(),
                qdisc.bytes.to_string(),
                qdisc.drops.to_string(),
            ]
        });
    table(["device", "kind", "packets", "bytes", "drops"], rows)
}

pub(super) fn sockets(sockets: &[SocketState]) -> Markup {
    let rows = sockets.iter().map(|socket| {
        [
            socket.protocol.to_owned(),
            socket.local.clone(),
            socket.remote.clone(),
            socket.state.clone(),
            socket.send_queue.to_string(),
            socket.receive_queue.to_string(),
            socket
                .drops
                .map(|drops| drops.to_string())
                .unwrap_or_default(),
        ]
    });
    table(
        [
            "protocol", "local", "remote", "state", "to send", "to read", "drops",
        ],
        rows,
    )
}

pub(super) fn pairs<'a, V: ToString + 'a>(
    pairs: impl IntoIterator<Item = (&'a String, &'a V)>,
) -> Markup {
    let rows = pairs
        .into_iter()
        .map(|(name, value)| [name.clone(), value.to_string()]);
    table(["name", "value"], rows)
}
