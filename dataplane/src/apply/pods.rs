//! The host's side of the local pods: sysctls of their interfaces, permanent neighbours.

use super::{Devices, Report};
use crate::desired::Desired;
use crate::platform::{KernelError, Neighbour, Platform};

/// Calico's settings for the host's end of a pod's veth pair: answer the pod's ARP for its
/// gateway, at once, and forward what it sends.
pub(super) fn sysctls(
    platform: &mut dyn Platform,
    desired: &Desired,
    devices: &Devices,
    report: &mut Report,
) {
    for interface in desired
        .interfaces
        .iter()
        .filter(|name| devices.by_name.contains_key(*name))
    {
        let required = [
            (format!("net/ipv4/conf/{interface}/proxy_arp"), "1"),
            (format!("net/ipv4/conf/{interface}/forwarding"), "1"),
            (format!("net/ipv4/conf/{interface}/route_localnet"), "1"),
            (format!("net/ipv4/neigh/{interface}/proxy_delay"), "0"),
            (format!("net/ipv6/conf/{interface}/accept_ra"), "0"),
        ];
        for (path, value) in required {
            // Missing: a kernel without IPv6, or an interface that went away meanwhile.
            match platform.set_if_present(&path, value) {
                Ok(written) => report.changes.sysctls += usize::from(written),
                Err(error) => report.error(&error),
            }
        }
    }
}

pub(super) fn neighbours(
    platform: &mut dyn Platform,
    desired: &Desired,
    devices: &Devices,
    report: &mut Report,
) -> Result<(), KernelError> {
    // The kernel forgets the neighbours of an interface that goes down.
    let index = |name: &str| devices.up(name).map(|link| link.index);
    let wanted: Vec<Neighbour> = desired
        .neighbours
        .iter()
        .filter_map(|((name, address), mac)| {
            Some(Neighbour {
                interface: index(name)?,
                address: *address,
                mac: *mac,
            })
        })
        .collect();
    let ours: Vec<u32> = desired
        .interfaces
        .iter()
        .filter_map(|name| index(name))
        .collect();
    if ours.is_empty() {
        return Ok(());
    }
    let mut actual = platform.neighbours()?;
    actual.retain(|neighbour| ours.contains(&neighbour.interface));

    let missing: Vec<_> = wanted
        .iter()
        .filter(|n| !actual.contains(n))
        .copied()
        .collect();
    let key = |n: &Neighbour| (n.interface, n.address);
    let stale: Vec<_> = actual
        .into_iter()
        .filter(|n| !wanted.iter().any(|w| key(w) == key(n)))
        .collect();
    let errors = platform.replace_neighbours(&missing);
    report.changes.neighbours += report.all(missing.len(), &errors);
    let errors = platform.remove_neighbours(&stale);
    report.changes.neighbours += report.all(stale.len(), &errors);
    Ok(())
}
