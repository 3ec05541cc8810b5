//! The table as a value: a pure function of the desired state.

use std::fmt::Display;

use ipnet::Ipv4Net;

use crate::desired::Desired;
use crate::encap::TUNNEL;

/// The one nftables table that is ours, of family `ip`. Whatever has this name is replaced.
pub(crate) const TABLE: &str = "podlab";

/// The table's whole content, as a script that puts it in the place of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruleset(String);

impl Ruleset {
    /// The rules that Calico has (Felix' filter and nat chains for IPIP), with sets for whatever
    /// grows with the cluster.
    pub(crate) fn new(desired: &Desired) -> Self {
        let node = desired.address.addr();
        let nodes = set("nodes", "ipv4_addr", false, &desired.peers.nodes);
        let external = prefixes("external_nodes", &desired.peers.external);
        let pools = prefixes("pools", &desired.pools.all);
        let nat_pools = prefixes("nat_pools", &desired.pools.nat_outgoing);
        let interfaces = desired.interfaces.iter().map(|name| format!("{name:?}"));
        let interfaces = set("pod_interfaces", "ifname", false, interfaces);
        let sources = desired.pod_sources.iter();
        let sources = sources.map(|(name, address)| format!("{name:?} . {address}"));
        let sources = set("pod_sources", "ifname . ipv4_addr", false, sources);
        // To declare the table first makes its removal possible where there is none yet.
        Self(format!(
            r#"table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
{nodes}{external}{pools}{nat_pools}{interfaces}{sources}
	# From pods: only under their own addresses and never tunnel packets, whatever rp_filter says.
	# A cali interface that nobody told us of yet has no address of its own. route_localnet lets
	# pods address what listens on the node's loopback only (CVE-2020-8558); none of it is theirs.
	chain prerouting {{
		type filter hook prerouting priority raw; policy accept;
		iifname @pod_interfaces ip daddr 127.0.0.0/8 drop
		iifname . ip saddr @pod_sources ip protocol != 4 accept
		iifname @pod_interfaces drop
		iifname "cali*" drop
	}}

	# Tunnel packets: only between nodes, and only at the node's own underlay address.
	chain input {{
		type filter hook input priority filter; policy accept;
		ip protocol != 4 accept
		ip daddr {node} ip saddr @nodes accept
		ip daddr {node} ip saddr @external_nodes accept
		drop
	}}
	# The kernel's ipip module says of what it has no device for that nobody wants it, also when
	# another backend has taken the packet: no other node is to hear that.
	chain output {{
		type filter hook output priority filter; policy accept;
		icmp type destination-unreachable icmp code port-unreachable @th,136,8 0x4 ip daddr @nodes drop
		ip protocol != 4 accept
		ip daddr @nodes accept
		ip daddr @external_nodes accept
		drop
	}}

	# The other end answers through the tunnel only to an address of the tunnel.
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		oifname "{TUNNEL}" fib saddr . oif type != local fib saddr type local masquerade
		ip saddr @nat_pools ip daddr != @pools masquerade
	}}
}}
"#
        ))
    }

    /// In the language of `nft -f`.
    pub(crate) fn script(&self) -> &str {
        &self.0
    }
}

/// A set of prefixes. nftables takes no overlapping ones, so they are joined first.
fn prefixes<'a>(name: &str, prefixes: impl IntoIterator<Item = &'a Ipv4Net>) -> String {
    let prefixes: Vec<Ipv4Net> = prefixes.into_iter().copied().collect();
    set(name, "ipv4_addr", true, Ipv4Net::aggregate(&prefixes))
}

fn set<T: Display>(
    name: &str,
    of: &str,
    interval: bool,
    elements: impl IntoIterator<Item = T>,
) -> String {
    let flags = if interval { " flags interval;" } else { "" };
    let elements: Vec<String> = elements.into_iter().map(|e| e.to_string()).collect();
    // nft's language has no empty list.
    let elements = match elements.as_slice() {
        [] => String::new(),
        some => format!(" elements = {{ {} }};", some.join(", ")),
    };
    format!("\tset {name} {{ type {of};{flags}{elements} }}\n")
}
