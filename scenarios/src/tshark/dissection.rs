//! What tshark says of a packet.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use podlab::packet::{Header, Packet, Stop};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Sums are checked, and every packet is read for itself: nothing is put together, counted from
/// the beginning of a connection, or looked up.
const OPTIONS: [&str; 18] = [
    "-n",
    "-T",
    "json",
    "--no-duplicate-keys",
    "-o",
    "ip.defragment:FALSE",
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-o",
    "tcp.desegment_tcp_streams:FALSE",
    "-o",
    "tcp.relative_sequence_numbers:FALSE",
    "-o",
    "tcp.analyze_sequence_numbers:FALSE",
];

/// The layers that both of us read, by tshark's names.
const KNOWN: [&str; 6] = ["arp", "ip", "icmp", "tcp", "udp", "vlan"];

/// One packet, as tshark has dissected it.
#[derive(Debug, Deserialize)]
pub(super) struct Dissection {
    #[serde(rename = "_source")]
    source: Source,
}

#[derive(Debug, Deserialize)]
struct Source {
    layers: Map<String, Value>,
}

/// Where a header stands: which of those of its kind, and whether in what an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// tshark's name of the layer.
    pub(super) layer: &'static str,
    /// From the outside; 0 is the first.
    pub(super) number: usize,
    pub(super) quoted: bool,
}

pub(super) fn by_tshark(file: &Path) -> Result<Vec<Dissection>> {
    let output = Command::new("tshark")
        .args(OPTIONS)
        .arg("-r")
        .arg(file)
        .output()
        .context("run tshark")?;
    ensure!(
        output.status.success(),
        "tshark -r {}: {}\n{}",
        file.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("read what tshark has printed")
}

impl Dissection {
    /// Seconds and nanoseconds since the epoch, with a point between.
    pub(super) fn time(&self) -> &str {
        self.frame("frame.time_epoch").unwrap_or_default()
    }

    pub(super) fn interface(&self) -> Option<&str> {
        self.frame("frame.interface_name")
    }

    fn frame(&self, field: &str) -> Option<&str> {
        let frame = self.source.layers.get("frame")?;
        find(frame, field)?.as_str()
    }

    /// The values of a field; there are several where a header has it several times.
    pub(super) fn values(&self, place: Place, field: &str) -> Vec<&str> {
        let layers = match place.quoted {
            true => {
                let icmp = last(self.source.layers.get("icmp"));
                icmp.and_then(Value::as_object)
            }
            false => Some(&self.source.layers),
        };
        let layer = layers.and_then(|layers| nth(layers.get(place.layer)?, place.number));
        match layer.and_then(|layer| find(layer, field)) {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one],
            _ => Vec::new(),
        }
    }

    /// Fails where tshark sees another stack of headers than we do, or goes further.
    pub(super) fn has_no_more_headers_than(&self, packet: &Packet) -> Result<(), String> {
        let protocols = self.frame("frame.protocols").unwrap_or_default();
        let mut theirs = protocols.split(':').filter(|name| KNOWN.contains(name));
        let ours = packet
            .layers()
            .iter()
            .filter_map(|layer| name(&layer.header));
        for ours in ours {
            let theirs = theirs.next();
            if theirs != Some(ours) {
                return Err(format!("we see {ours}, tshark {theirs:?} of {protocols}"));
            }
        }
        match theirs.next() {
            // What an ICMP error quotes is no header of the packet.
            Some(_) if packet.quoted().is_some() => Ok(()),
            Some(more) => match packet.stop() {
                // What stands between is nothing that we read.
                Some(Stop::UnknownEtherType(_) | Stop::UnknownProtocol(_)) => Ok(()),
                stop => Err(format!(
                    "tshark goes on to {more} of {protocols}, we stop: {stop:?}"
                )),
            },
            None => Ok(()),
        }
    }
}

/// tshark's name of a header that is a layer for both of us.
fn name(header: &Header) -> Option<&'static str> {
    Some(match header {
        Header::Ethernet(_) => return None,
        Header::Vlan(_) => "vlan",
        Header::Arp(_) => "arp",
        Header::Ipv4(_) => "ip",
        Header::Icmp(_) => "icmp",
        Header::Tcp(_) => "tcp",
        Header::Udp(_) => "udp",
    })
}

fn nth(layer: &Value, number: usize) -> Option<&Value> {
    match layer {
        Value::Array(all) => all.get(number),
        one => (number == 0).then_some(one),
    }
}

fn last(layer: Option<&Value>) -> Option<&Value> {
    match layer? {
        Value::Array(all) => all.last(),
        one => Some(one),
    }
}

/// A field of a layer, in its subtrees too, but not in those of other layers within it.
fn find<'v>(layer: &'v Value, field: &str) -> Option<&'v Value> {
    let object = layer.as_object()?;
    if let Some(value) = object.get(field) {
        return Some(value);
    }
    let subtrees = object.iter().filter(|(name, _)| is_subtree(name, field));
    subtrees
        .flat_map(|(_, value)| match value {
            Value::Array(all) => all.iter().collect(),
            one => vec![one],
        })
        .find_map(|subtree| find(subtree, field))
}

fn is_subtree(name: &str, field: &str) -> bool {
    // `data` is a layer of its own only where nothing of it is asked for.
    name.ends_with("_tree") || (name == "data" && field.starts_with("data."))
}
