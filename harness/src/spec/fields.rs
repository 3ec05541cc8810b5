//! The checks that any field of its kind has to pass: names, networks, addresses, MTUs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::fault::Faults;

/// RFC 791: every link carries 68 bytes; the largest packet is 65,535.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_535;
/// `IFNAMSIZ` without the final zero.
pub(super) const INTERFACE_NAME_MAX: usize = 15;

/// The state of one pass over a specification.
#[derive(Default)]
pub(super) struct Check {
    pub(super) faults: Faults,
    /// Who has each address: no two may.
    owners: BTreeMap<Ipv4Addr, String>,
}

impl Check {
    /// Parses a network whose host bits must be zero.
    pub(super) fn network(&mut self, subject: &str, what: &str, text: &str) -> Option<Ipv4Net> {
        let Ok(network) = text.parse::<Ipv4Net>() else {
            self.faults.add(
                subject,
                format!("its {what} {text:?} is no IPv4 network"),
                "write it like 192.168.1.0/24",
            );
            return None;
        };
        if network != network.trunc() {
            self.faults.add(
                subject,
                format!("its {what} {network} has host bits set"),
                format!("write {}", network.trunc()),
            );
            return None;
        }
        Some(network)
    }

    pub(super) fn address(&mut self, subject: &str, what: &str, text: &str) -> Option<Ipv4Addr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.faults.add(
                subject,
                format!("its {what} {text:?} is no IPv4 address"),
                "write it like 192.168.1.12, without a prefix",
            );
        }
        address
    }

    /// The first address of a network that nobody has; where all are taken, the first.
    pub(super) fn free_address(&self, network: Ipv4Net) -> Ipv4Addr {
        let mut hosts = network.hosts();
        let free = hosts.find(|address| !self.owners.contains_key(address));
        free.unwrap_or(network.addr())
    }

    /// Takes an address for `subject`; it must still be free.
    pub(super) fn claim(&mut self, subject: &str, address: Ipv4Addr) {
        match self.owners.get(&address) {
            Some(owner) => {
                let message = format!("its address {address} belongs to {owner} already");
                self.faults
                    .add(subject, message, "every address can be given once");
            }
            None => {
                self.owners.insert(address, subject.to_owned());
            }
        }
    }

    /// Names become hostnames and file names: letters, digits, `-` and `.`, at most 63.
    pub(super) fn name(&mut self, subject: &str, name: &str) {
        let good = !name.is_empty()
            && name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
        if !good {
            self.faults.add(
                subject,
                format!("{name:?} cannot be a name"),
                "use 1 to 63 letters, digits, `-` and `.`, starting with a letter or digit",
            );
        }
    }

    pub(super) fn interface(&mut self, subject: &str, name: &str) {
        let reserved = name == "lo" || name.starts_with("cali") || name.starts_with("tunl");
        let good = !name.is_empty()
            && name.len() <= INTERFACE_NAME_MAX
            && !name.starts_with('.')
            && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
        if reserved || !good {
            self.faults.add(
                subject,
                format!("{name:?} cannot be its underlay interface"),
                "use 1 to 15 characters without `/`, `:` and spaces; lo, cali… and tunl… are taken",
            );
        }
    }

    pub(super) fn mtu(&mut self, subject: &str, mtu: u32) {
        if !MTU_RANGE.contains(&mtu) {
            self.faults.add(
                subject,
                format!("MTU {mtu} is not possible"),
                format!("choose {} to {} bytes", MTU_RANGE.start(), MTU_RANGE.end()),
            );
        }
    }
}
