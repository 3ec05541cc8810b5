//! What tshark says of a packet.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use podlab::packet::{Header, Malformation, Packet, Protocol, Stop};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Sums are checked, and every packet is read for itself: nothing is put together, counted from
/// the beginning of a connection, or looked up. What an echo carries is data: the one protocol that
/// tshark guesses there asks for no more than a time in the right century, and the probes' payloads
/// are random.
const OPTIONS: [&str; 20] = [
    "--disable-protocol",
    "hipercontracer",
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

    /// Whether the IP header after those that we read has this version for tshark, too.
    fn next_ip_has(&self, packet: &Packet, version: u8) -> bool {
        let place = Place {
            layer: "ip",
            number: packet.ipv4_headers().count(),
            quoted: false,
        };
        self.values(place, "ip.version") == [version.to_string()]
    }

    /// Fails where tshark sees another stack of headers than we do, or goes further.
    pub(super) fn has_no_more_headers_than(&self, packet: &Packet) -> Result<(), String> {
        let protocols = self.frame("frame.protocols").unwrap_or_default();
        let mut theirs = known(protocols);
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
                // No header to us, and one with a wrong version to tshark.
                Some(Stop::Malformed {
                    header: Protocol::Ipv4,
                    reason: Malformation::Version(version),
                }) if more == "ip" && self.next_ip_has(packet, *version) => Ok(()),
                stop => Err(format!(
                    "tshark goes on to {more} of {protocols}, we stop: {stop:?}"
                )),
            },
            None => Ok(()),
        }
    }
}

/// The layers of a packet that both of us read. What TCP and UDP carry is payload to us, also where
/// it is a packet again, as with VXLAN.
fn known(protocols: &str) -> impl Iterator<Item = &str> {
    let mut names = protocols.split(':');
    let mut ended = false;
    std::iter::from_fn(move || {
        let next = if ended { None } else { names.next() };
        ended = matches!(next, Some("tcp" | "udp"));
        next
    })
    .filter(|name| KNOWN.contains(name))
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

#[cfg(test)]
mod tests {
    use podlab::packet::LinkType;
    use serde_json::json;

    use super::*;

    /// Ethernet and IPv4 of this protocol, without sums, and what it carries.
    fn packet(protocol: u8, rest: &[u8]) -> Packet {
        let mut bytes = vec![0; 34];
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        bytes[14] = 0x45;
        bytes[17] = 20 + u8::try_from(rest.len()).unwrap();
        (bytes[22], bytes[23]) = (64, protocol);
        bytes.extend_from_slice(rest);
        Packet::decode(LinkType::Ethernet, bytes)
    }

    fn compared(packet: &Packet, protocols: &str, ip: Value) -> Result<(), String> {
        let frame = json!({"frame.protocols": protocols});
        let layers = json!({"_source": {"layers": {"frame": frame, "ip": ip}}});
        let dissection: Dissection = serde_json::from_value(layers).unwrap();
        dissection.has_no_more_headers_than(packet)
    }

    #[test]
    fn what_udp_carries_is_payload() {
        let udp = packet(17, &[0, 9, 0x12, 0xb5, 0, 12, 0, 0, 1, 2, 3, 4]);
        let inner = "eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:icmp";
        assert_eq!(compared(&udp, inner, json!({})), Ok(()));
        let other = compared(&udp, "eth:ethertype:ip:tcp", json!({}));
        assert!(other.is_err_and(|error| error.contains("we see udp")));
    }

    #[test]
    fn a_wrong_version_is_wrong_for_both() {
        let ipip = packet(4, &[0; 8]);
        let stack = "eth:ethertype:ip:ip";
        let version = |inner: &str| json!([{"ip.version": "4"}, {"ip.version": inner}]);
        assert_eq!(compared(&ipip, stack, version("0")), Ok(()));
        assert!(compared(&ipip, stack, version("4")).is_err());
        assert!(compared(&ipip, "eth:ethertype:ip:ip:icmp:ip", version("4")).is_err());
    }
}
