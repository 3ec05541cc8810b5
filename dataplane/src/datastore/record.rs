//! The records of the datastore: what one file may say, and what is wrong with it.
//!
//! Every check that a single file allows is made here, while it is parsed, so that the message
//! carries the line and column. What only several files together can show is in
//! [`check`](super::check).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::de::{Deserialize, Deserializer, Error};

use super::InterfacePattern;
use crate::mac::Mac;

/// When packets between two nodes are put into IPIP (Calico's `ipipMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Between every two nodes.
    Always,
    /// Only between nodes whose underlay subnets differ.
    CrossSubnet,
    /// Nowhere.
    Never,
}

/// `pools/NAME.json`: a range of pod addresses and how they are carried.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "PoolFile")]
pub struct Pool {
    /// The range; no host bits are set.
    pub cidr: Ipv4Net,
    /// Prefix length of the blocks the range is cut into.
    pub block_size: u8,
    /// When packets to addresses of the pool are encapsulated.
    pub encapsulation: Mode,
    /// Whether packets that leave all pools get the node's source address.
    pub nat_outgoing: bool,
    /// MTU of the tunnel in bytes; without it, the underlay's MTU less 20.
    pub tunnel_mtu: Option<u32>,
}

/// `config.json`: what holds for the whole cluster. Without the file, nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "ConfigFile")]
pub struct Config {
    /// Addresses outside the cluster that may exchange tunnel packets with its nodes (Calico's
    /// `externalNodesList`).
    pub external_nodes: BTreeSet<Ipv4Net>,
    /// Interfaces by which packets between nodes may come and go: the lowest MTU of those that
    /// are up counts (Calico's `mtuIfacePattern`). By default the names of network cards.
    pub mtu_interface_pattern: InterfacePattern,
}

/// `nodes/NAME.json`: a node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "NodeFile")]
pub struct Node {
    /// Underlay address with the prefix length of its subnet; host bits are kept.
    pub address: Ipv4Net,
    /// The one address of `tunl0`, usually the first of the node's first block.
    pub tunnel_address: Option<Ipv4Addr>,
    /// The blocks the node hands out pod addresses from.
    pub blocks: Vec<Ipv4Net>,
}

/// `endpoints/NODE/ID.json`: a pod on a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "EndpointFile")]
pub struct Endpoint {
    /// Name of the pod.
    pub pod: String,
    /// Kubernetes namespace of the pod.
    pub namespace: String,
    /// The node's end of the pod's veth pair.
    pub interface: String,
    /// The pod's addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// The MAC address of the pod's end, if known.
    pub mac: Option<Mac>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolFile {
    cidr: Prefix,
    block_size: u8,
    encapsulation: Mode,
    #[serde(default)]
    nat_outgoing: bool,
    tunnel_mtu: Option<u32>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    external_nodes: Vec<Prefix>,
    #[serde(default)]
    mtu_interface_pattern: InterfacePattern,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    address: HostAndPrefix,
    tunnel_address: Option<Host>,
    blocks: Vec<Prefix>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointFile {
    pod: String,
    namespace: String,
    interface: String,
    addresses: Vec<Host>,
    mac: Option<MacText>,
}

/// Smallest MTU that IPv4 allows (RFC 791), and the largest packet there is.
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

impl TryFrom<PoolFile> for Pool {
    type Error = String;

    fn try_from(file: PoolFile) -> Result<Self, String> {
        let cidr = file.cidr.0;
        if !(cidr.prefix_len()..=32).contains(&file.block_size) {
            let shortest = cidr.prefix_len();
            return Err(format!(
                "block_size {} does not fit into {cidr} (expected {shortest} to 32)",
                file.block_size
            ));
        }
        if let Some(mtu) = file.tunnel_mtu.filter(|mtu| !MTU.contains(mtu)) {
            return Err(format!("tunnel_mtu {mtu} is out of range (68 to 65535)"));
        }
        Ok(Self {
            cidr,
            block_size: file.block_size,
            encapsulation: file.encapsulation,
            nat_outgoing: file.nat_outgoing,
            tunnel_mtu: file.tunnel_mtu,
        })
    }
}

impl From<ConfigFile> for Config {
    fn from(file: ConfigFile) -> Self {
        let external_nodes = file.external_nodes.into_iter().map(|net| net.0);
        Self {
            external_nodes: external_nodes.collect(),
            mtu_interface_pattern: file.mtu_interface_pattern,
        }
    }
}

impl TryFrom<NodeFile> for Node {
    type Error = String;

    fn try_from(file: NodeFile) -> Result<Self, String> {
        let blocks: Vec<_> = file.blocks.into_iter().map(|block| block.0).collect();
        for (i, block) in blocks.iter().enumerate() {
            if let Some(other) = blocks[..i]
                .iter()
                .find(|b| b.contains(block) || block.contains(*b))
            {
                return Err(format!("blocks {other} and {block} overlap"));
            }
        }
        Ok(Self {
            address: file.address.0,
            tunnel_address: file.tunnel_address.map(|host| host.0),
            blocks,
        })
    }
}

impl TryFrom<EndpointFile> for Endpoint {
    type Error = String;

    fn try_from(file: EndpointFile) -> Result<Self, String> {
        // The kernel's dev_valid_name(), IFNAMSIZ less the terminating zero; and nothing that
        // means more than itself in a rule of nftables.
        let name = &file.interface;
        let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
        if !fits || name.contains(|c: char| !c.is_ascii_graphic() || "/:\"*\\".contains(c)) {
            return Err(format!(
                "interface {name:?} cannot be the name of an interface"
            ));
        }
        Ok(Self {
            pod: file.pod,
            namespace: file.namespace,
            interface: file.interface,
            addresses: file.addresses.into_iter().map(|host| host.0).collect(),
            mac: file.mac.map(|mac| mac.0),
        })
    }
}

/// An address that one interface can have.
struct Host(Ipv4Addr);
/// The same with the prefix length of its subnet.
struct HostAndPrefix(Ipv4Net);
/// A prefix without host bits.
struct Prefix(Ipv4Net);
struct MacText(Mac);

fn usable(address: Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && !address.is_broadcast()
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address = text
            .parse()
            .map_err(|_| D::Error::custom(format!("{text:?} is not an IPv4 address")))?;
        if !usable(address) {
            return Err(D::Error::custom(format!(
                "{address} cannot be the address of an interface"
            )));
        }
        Ok(Self(address))
    }
}

impl<'de> Deserialize<'de> for HostAndPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let net = prefix_length_required::<D>(String::deserialize(deserializer)?)?;
        if !usable(net.addr()) {
            let address = net.addr();
            return Err(D::Error::custom(format!(
                "{address} cannot be the address of an interface"
            )));
        }
        Ok(Self(net))
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let net = prefix_length_required::<D>(String::deserialize(deserializer)?)?;
        if net.trunc() != net {
            let meant = net.trunc();
            return Err(D::Error::custom(format!(
                "{net} has host bits set (did you mean {meant}?)"
            )));
        }
        Ok(Self(net))
    }
}

impl<'de> Deserialize<'de> for MacText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mac = text
            .parse()
            .map_err(|why| D::Error::custom(format!("{text:?} is {why}")))?;
        Ok(Self(mac))
    }
}

fn prefix_length_required<'de, D: Deserializer<'de>>(text: String) -> Result<Ipv4Net, D::Error> {
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not an IPv4 address with a prefix length (as in 10.12.22.2/16)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn error<T: serde::de::DeserializeOwned>(json: &str) -> String {
        serde_json::from_str::<T>(json)
            .err()
            .expect("must be refused")
            .to_string()
    }

    #[test]
    fn the_contracts_examples_parse() {
        let pool: Pool = serde_json::from_str(
            r#"{"cidr":"192.168.0.0/16","block_size":24,"encapsulation":"cross-subnet",
                "nat_outgoing":false,"tunnel_mtu":1440}"#,
        )
        .unwrap();
        assert_eq!(pool.encapsulation, Mode::CrossSubnet);
        assert_eq!(pool.tunnel_mtu, Some(1440));

        let node: Node = serde_json::from_str(
            r#"{"address":"10.12.22.2/16","tunnel_address":"192.168.1.0","blocks":["192.168.1.0/24"]}"#,
        )
        .unwrap();
        assert_eq!(
            node.address.to_string(),
            "10.12.22.2/16",
            "host bits are kept"
        );

        let endpoint: Endpoint = serde_json::from_str(
            r#"{"pod":"test-tools","namespace":"default","interface":"calied9d42cb137",
                "addresses":["192.168.1.12"],"mac":"02:00:00:00:00:01"}"#,
        )
        .unwrap();
        assert_eq!(endpoint.mac, Some(Mac([2, 0, 0, 0, 0, 1])));
    }

    #[rstest]
    #[case(
        r#"{"cidr":"192.168.0.1/16","block_size":24,"encapsulation":"always"}"#,
        "192.168.0.1/16 has host bits set (did you mean 192.168.0.0/16?)"
    )]
    #[case(
        r#"{"cidr":"192.168.0.0/16","block_size":8,"encapsulation":"always"}"#,
        "block_size 8 does not fit into 192.168.0.0/16 (expected 16 to 32)"
    )]
    #[case(
        r#"{"cidr":"192.168.0.0/16","block_size":24,"encapsulation":"sometimes"}"#,
        "unknown variant `sometimes`, expected one of `always`, `cross-subnet`, `never`"
    )]
    #[case(
        r#"{"cidr":"192.168.0.0/16","block_size":24,"encapsulation":"never","tunnel_mtu":20}"#,
        "tunnel_mtu 20 is out of range"
    )]
    #[case(
        r#"{"cidr":"192.168.0.0/16","block_size":24,"encapsulation":"never","mtu":20}"#,
        "unknown field `mtu`"
    )]
    fn a_bad_pool_is_refused(#[case] json: &str, #[case] why: &str) {
        assert!(error::<Pool>(json).contains(why), "{}", error::<Pool>(json));
    }

    #[rstest]
    #[case(
        r#"{"address":"10.12.22.2","blocks":[]}"#,
        "\"10.12.22.2\" is not an IPv4 address with a prefix length"
    )]
    #[case(
        r#"{"address":"224.0.0.1/4","blocks":[]}"#,
        "224.0.0.1 cannot be the address of an interface"
    )]
    #[case(r#"{"address":"10.0.0.1/8"}"#, "missing field `blocks`")]
    #[case(
        r#"{"address":"10.0.0.1/8","blocks":["192.168.1.0/24","192.168.1.128/25"]}"#,
        "blocks 192.168.1.0/24 and 192.168.1.128/25 overlap"
    )]
    #[case(
        r#"{"address":"10.0.0.1/8","blocks":[],"tunnel_address":"fe80::1"}"#,
        "\"fe80::1\" is not an IPv4 address"
    )]
    fn a_bad_node_is_refused(#[case] json: &str, #[case] why: &str) {
        assert!(error::<Node>(json).contains(why), "{}", error::<Node>(json));
    }

    #[rstest]
    #[case(
        "cali0",
        "192.168.1.300",
        "",
        "\"192.168.1.300\" is not an IPv4 address"
    )]
    #[case("cali*", "192.168.1.3", "", "cannot be the name of an interface")]
    #[case("ca\\\"li", "192.168.1.3", "", "cannot be the name of an interface")]
    #[case("cali0", "0.0.0.0", "", "0.0.0.0 cannot be the address")]
    #[case("cali0/../..", "192.168.1.3", "", "cannot be the name of an interface")]
    #[case(
        "cali567890123456",
        "192.168.1.3",
        "",
        "cannot be the name of an interface"
    )]
    #[case(
        "cali0",
        "192.168.1.3",
        r#","mac":"nonsense""#,
        "\"nonsense\" is not a MAC address"
    )]
    fn a_bad_endpoint_is_refused(
        #[case] interface: &str,
        #[case] address: &str,
        #[case] mac: &str,
        #[case] why: &str,
    ) {
        let json = format!(
            r#"{{"pod":"a","namespace":"b","interface":"{interface}","addresses":["{address}"]{mac}}}"#
        );
        assert!(
            error::<Endpoint>(&json).contains(why),
            "{}",
            error::<Endpoint>(&json)
        );
    }

    #[rstest]
    #[case(
        r#"{"external_nodes":["10.99.0.1/24"]}"#,
        "10.99.0.1/24 has host bits set"
    )]
    #[case(r#"{"external_nodes":["10.99.0.1"]}"#, "with a prefix length")]
    #[case(r#"{"external":[]}"#, "unknown field `external`")]
    #[case(
        r#"{"mtu_interface_pattern":"eth("}"#,
        "\"eth(\" is no regular expression: "
    )]
    fn a_bad_config_is_refused(#[case] json: &str, #[case] why: &str) {
        let error = error::<Config>(json);
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn the_message_carries_line_and_column() {
        let message = error::<Node>("{\n  \"address\": 7,\n  \"blocks\": []\n}");
        assert!(message.ends_with("at line 2 column 14"), "{message}");
    }
}
