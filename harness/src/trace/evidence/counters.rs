//! The kernel's counters of losses: `/proc/net/snmp`, `netstat`, `dev` and `softnet_stat`.

use std::collections::BTreeMap;
use std::fmt;

use crate::backlog;
use crate::error::Error;
use crate::machine::Machine;

/// A counter of losses that moved while a probe was lost.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Moved {
    /// The machine.
    pub machine: String,
    /// The counter: `Ip.InNoRoutes`, `eth0.rx_dropped`.
    pub counter: String,
    /// By how much.
    pub by: u64,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} +{}", self.machine, self.counter, self.by)
    }
}

/// Counters by name.
pub(in crate::trace) type Counters = BTreeMap<String, u64>;

const FILES: [&str; 4] = ["snmp", "netstat", "dev", "softnet_stat"];

/// What a name must contain to be a counter of losses.
const LOSSES: [&str; 14] = [
    "Discard", "NoRoute", "Errors", "Errs", "Drop", "drop", "errs", "Unknown", "Fails", "Filter",
    "Unreachs", "NoPort", "Overflow", "colls",
];

/// The columns of `/proc/net/dev`, receiving and sending.
const DEV: [&str; 16] = [
    "rx_bytes",
    "rx_packets",
    "rx_errs",
    "rx_drop",
    "rx_fifo",
    "rx_frame",
    "rx_compressed",
    "rx_multicast",
    "tx_bytes",
    "tx_packets",
    "tx_errs",
    "tx_drop",
    "tx_fifo",
    "tx_colls",
    "tx_carrier",
    "tx_compressed",
];

/// All counters of losses of a machine.
pub(in crate::trace) fn read(machine: &Machine) -> Result<Counters, Error> {
    let read = || {
        FILES.map(|name| {
            // `thread-self` follows the thread into the machine's namespace, `self` does not.
            let text = std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
            text.unwrap_or_default()
        })
    };
    let [snmp, netstat, dev, softnet] = machine.live()?.namespaces().run(read)?;
    let mut all = pairs(&snmp);
    all.extend(pairs(&netstat));
    all.extend(devices(&dev));
    all.insert("softnet.drop".to_owned(), backlog::dropped_in(&softnet));
    all.retain(|name, _| LOSSES.iter().any(|part| name.contains(part)));
    Ok(all)
}

/// What has grown.
pub(in crate::trace) fn moved(machine: &str, before: &Counters, after: &Counters) -> Vec<Moved> {
    let grown = after.iter().filter_map(|(counter, now)| {
        let by = now.checked_sub(*before.get(counter).unwrap_or(&0))?;
        (by > 0).then(|| Moved {
            machine: machine.to_owned(),
            counter: counter.clone(),
            by,
        })
    });
    grown.collect()
}

/// `Ip: A B` and below it `Ip: 1 2`.
fn pairs(text: &str) -> Counters {
    let lines: Vec<&str> = text.lines().collect();
    let mut counters = Counters::new();
    for couple in lines.chunks_exact(2) {
        let (names, values) = (couple[0].split_once(':'), couple[1].split_once(':'));
        let (Some((group, names)), Some((_, values))) = (names, values) else {
            continue;
        };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // Some are signed (`MaxConn` is -1); these count nothing.
            if let Ok(value) = value.parse() {
                counters.insert(format!("{group}.{name}"), value);
            }
        }
    }
    counters
}

fn devices(text: &str) -> Counters {
    let mut counters = Counters::new();
    for line in text.lines().skip(2) {
        let Some((device, values)) = line.split_once(':') else {
            continue;
        };
        for (name, value) in DEV.iter().zip(values.split_whitespace()) {
            if let Ok(value) = value.parse() {
                counters.insert(format!("{}.{name}", device.trim()), value);
            }
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_paired_by_their_columns() {
        let text = "Ip: Forwarding InNoRoutes\nIp: 1 7\nTcp: MaxConn InErrs\nTcp: -1 2\n";
        let counters = pairs(text);
        assert_eq!(counters.get("Ip.InNoRoutes"), Some(&7));
        assert_eq!(counters.get("Tcp.InErrs"), Some(&2));
        assert_eq!(counters.get("Tcp.MaxConn"), None);
    }

    #[test]
    fn a_device_has_sixteen_columns() {
        let text =
            "Inter-| Receive\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let counters = devices(text);
        assert_eq!(counters.get("eth0.rx_drop"), Some(&4));
        assert_eq!(counters.get("eth0.tx_drop"), Some(&12));
    }

    #[test]
    fn only_what_has_grown_has_moved() {
        let before = Counters::from([("a".to_owned(), 1), ("b".to_owned(), 5)]);
        let after = Counters::from([
            ("a".to_owned(), 1),
            ("b".to_owned(), 7),
            ("c".to_owned(), 1),
        ]);
        let moved: Vec<String> = moved("n1", &before, &after)
            .iter()
            .map(Moved::to_string)
            .collect();
        assert_eq!(moved, ["n1 b +2", "n1 c +1"]);
    }
}
