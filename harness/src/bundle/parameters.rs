//! The kernel parameters and counters of a machine that decide, or tell, what happens to packets.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Of the machine as a whole, below `/proc/sys/net`.
const GLOBAL: [&str; 10] = [
    "ipv4/ip_forward",
    "ipv4/ip_default_ttl",
    "ipv4/ip_no_pmtu_disc",
    "ipv4/ip_forward_use_pmtu",
    "ipv4/ip_nonlocal_bind",
    "ipv4/icmp_echo_ignore_all",
    "ipv4/icmp_ratelimit",
    "ipv4/tcp_mtu_probing",
    "ipv4/fib_multipath_hash_policy",
    "bridge/bridge-nf-call-iptables",
];

/// Of each device, below `/proc/sys/net/ipv4/conf/DEVICE`.
const IPV4: [&str; 11] = [
    "forwarding",
    "rp_filter",
    "proxy_arp",
    "arp_ignore",
    "arp_announce",
    "arp_filter",
    "accept_local",
    "route_localnet",
    "send_redirects",
    "accept_redirects",
    "src_valid_mark",
];

/// The parameters of the calling thread's network namespace, by their names below `net`. Those
/// that the kernel does not have are left out.
pub(super) fn read() -> io::Result<BTreeMap<String, String>> {
    let root = Path::new("/proc/sys/net");
    let mut names: Vec<String> = GLOBAL.map(str::to_owned).into();
    for entry in fs::read_dir(root.join("ipv4/conf"))? {
        let device = entry?.file_name();
        let device = device.to_string_lossy();
        names.extend(IPV4.map(|name| format!("ipv4/conf/{device}/{name}")));
        names.push(format!("ipv4/neigh/{device}/proxy_delay"));
        names.push(format!("ipv6/conf/{device}/disable_ipv6"));
    }
    let values = names.into_iter().filter_map(|name| {
        let value = fs::read_to_string(root.join(&name)).ok()?;
        Some((name, value.trim().to_owned()))
    });
    Ok(values.collect())
}

/// The protocol counters of the calling thread's network namespace that have counted anything:
/// `Ip.OutNoRoutes`, `IpExt.InBcastPkts`.
pub(super) fn counters() -> io::Result<BTreeMap<String, u64>> {
    let mut counters = BTreeMap::new();
    for file in ["snmp", "netstat"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
        counters.extend(parse(&text));
    }
    Ok(counters)
}

/// Lines come in pairs, `Ip: Forwarding DefaultTTL` and `Ip: 1 64`.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2).filter_map(|pair| {
        let (group, names) = pair[0].split_once(':')?;
        let (_, values) = pair[1].split_once(':')?;
        let names = names.split_whitespace();
        Some((group, names.zip(values.split_whitespace())))
    });
    let all = pairs.flat_map(|(group, counters)| {
        counters.filter_map(move |(name, value)| {
            // These are parameters, and negative ones say "no limit".
            let is_parameter = matches!(
                name,
                "Forwarding" | "DefaultTTL" | "RtoAlgorithm" | "RtoMin" | "RtoMax" | "MaxConn"
            );
            let value = value.parse().ok()?;
            (value > 0 && !is_parameter).then(|| (format!("{group}.{name}"), value))
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_have_counted_are_named_by_their_group() {
        let text = "Ip: Forwarding DefaultTTL InReceives OutNoRoutes\nIp: 1 64 7 0\n\
                    Tcp: RtoAlgorithm MaxConn ActiveOpens\nTcp: 1 -1 3\n";
        let expected = [("Ip.InReceives", 7), ("Tcp.ActiveOpens", 3)];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(parse(text), BTreeMap::from(expected));
    }

    #[test]
    fn the_parameters_of_lo_are_there() {
        let parameters = read().unwrap();
        assert!(parameters.contains_key("ipv4/ip_forward"), "{parameters:?}");
        assert!(parameters.contains_key("ipv4/conf/lo/rp_filter"));
    }
}
