//! The route printer against the real `route` of net-tools, byte for byte.
//!
//! Everything happens in the network namespace of one child process.
#![cfg(feature = "netns")]

use podlab::route_table::{RouteKind, RouteRow, route_n};
use serde_json::Value;
use std::process::Command;

/// Every kind of route that the printer knows, in an order that is not the kernel's. Prints
/// what `ip` says and then what `route` says, with a line between them.
const SCRIPT: &str = "
set -e
ip link set lo up
ip link add ens192 type veth peer name cali0005aea454a
ip address add 10.12.22.2/16 dev ens192
ip link set ens192 up
ip link set cali0005aea454a up
for route in \
    '192.168.2.0/24 via 10.12.22.3 dev ens192 proto 80 onlink' \
    '192.168.0.0/24 via 10.12.22.1 dev ens192 proto 80 onlink' \
    'blackhole 192.168.1.0/24 proto 80' \
    'blackhole 192.168.3.2/32' \
    '192.168.1.12/32 dev cali0005aea454a' \
    '192.168.1.2/32 dev cali0005aea454a' \
    '192.168.1.10/32 via 10.12.0.3' \
    '192.168.1.0/32 dev cali0005aea454a' \
    '192.168.0.0/16 dev ens192 metric 4294967295' \
    '192.168.0.0/16 dev ens192 metric 1234567' \
    'unreachable 192.168.3.0/24' \
    'unreachable 192.168.3.1/32 metric 7' \
    'prohibit 192.168.4.0/24 metric 42' \
    'unreachable default metric 4278198272' \
    'default via 10.12.0.2 metric 100' \
    'default via 10.12.0.1' \
    '128.0.0.0/1 via 10.12.0.1' \
    '0.0.0.0/1 via 10.12.0.1' \
    '0.0.0.0/8 dev ens192' \
    '10.0.0.0/8 dev cali0005aea454a' \
    '10.12.0.0/16 dev cali0005aea454a metric 5' \
    '10.12.0.0/16 dev cali0005aea454a metric 3 tos 0x10' \
    '10.12.0.0/24 dev cali0005aea454a' \
    '255.255.255.255/32 dev ens192'
do ip route add $route; done
ip -json route
echo ---
route -n
";

/// Without it users would compare our table with their cluster's and chase differences that
/// are only in the printing.
#[test]
fn the_printer_equals_net_tools() {
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", SCRIPT])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (json, route) = text.split_once("---\n").unwrap();
    let mut rows: Vec<RouteRow> = serde_json::from_str::<Vec<Value>>(json)
        .unwrap()
        .iter()
        .map(row)
        .collect();
    assert_eq!(rows.len(), 25);
    // `ip` lists in the kernel's order: the order printed is to be the printer's own work.
    rows.reverse();
    assert_eq!(route_n(&rows), route);
}

fn row(route: &Value) -> RouteRow {
    let text = |key: &str| route[key].as_str();
    let destination = match text("dst").unwrap() {
        "default" => "0.0.0.0/0".to_owned(),
        network if network.contains('/') => network.to_owned(),
        host => format!("{host}/32"),
    };
    RouteRow {
        destination: destination.parse().unwrap(),
        gateway: text("gateway").map(|address| address.parse().unwrap()),
        interface: text("dev").map(str::to_owned),
        kind: match text("type") {
            None => RouteKind::Unicast,
            Some("blackhole") => RouteKind::Blackhole,
            Some("unreachable") => RouteKind::Unreachable,
            Some("prohibit") => RouteKind::Prohibit,
            Some(other) => panic!("a route of type {other}"),
        },
        tos: text("tos").map_or(0, |tos| {
            u8::from_str_radix(tos.trim_start_matches("0x"), 16).unwrap()
        }),
        metric: route["metric"].as_u64().unwrap_or(0).try_into().unwrap(),
    }
}
