//! The tunnel device and its one address.

use ipnet::Ipv4Net;

use super::{Devices, Report};
use crate::desired::{self, Desired, Interface};
use crate::encap::{EncapError, Encapsulation, TUNNEL, TunnelSpec};
use crate::platform::{Address, KernelError, Link, Platform};
use crate::report;

/// Returns whether interfaces or addresses were changed.
pub(super) fn apply(
    platform: &mut dyn Platform,
    encapsulation: &mut dyn Encapsulation,
    desired: &Desired,
    devices: &Devices,
    thorough: bool,
    report: &mut Report,
) -> Result<bool, KernelError> {
    let own = desired.address;
    let Some(underlay) = &devices.underlay else {
        report.not_ready.insert(format!(
            "no interface has the node's address {}",
            own.addr()
        ));
        return Ok(false);
    };
    if !underlay.up {
        report
            .not_ready
            .insert(format!("the underlay interface {} is down", underlay.name));
    }
    let mtu = underlay_mtu(desired, devices, underlay);
    let tunnel = desired.tunnel;
    report.pod_mtu = Some(tunnel.pod_mtu(mtu));
    let links: Vec<Link> = devices.by_name.values().cloned().collect();
    let spec = TunnelSpec {
        mtu: tunnel.mtu.on(mtu),
        underlay,
        node_address: own.addr(),
        peers: &desired.peers,
        thorough,
    };
    let changed = match encapsulation.ensure(&spec, &links, platform) {
        Ok(changed) => changed,
        Err(error) => {
            refused(&error, report);
            return Ok(true);
        }
    };
    report.changes.tunnels += usize::from(changed);
    if !tunnel.in_use {
        return Ok(changed);
    }
    let links = if changed { platform.links()? } else { links };
    let device = links.iter().find(|link| link.name == TUNNEL);
    Ok(addresses(platform, device, tunnel.address.map(Ipv4Net::from), report)? || changed)
}

fn underlay_mtu(desired: &Desired, devices: &Devices, underlay: &Link) -> u32 {
    fn interface(link: &Link) -> Interface<'_> {
        Interface {
            name: &link.name,
            up: link.up,
            mtu: link.mtu,
        }
    }
    let all = devices.by_name.values().map(interface);
    desired::underlay_mtu(interface(underlay), all, &desired.mtu_interfaces)
}

/// Takes the tunnel's address away when no pool encapsulates.
///
/// That is the last thing to do: with its last address the device loses its routes, and until
/// others are in place packets go by them. Returns whether anything was taken away.
pub(super) fn strip(
    platform: &mut dyn Platform,
    desired: &Desired,
    devices: &Devices,
    report: &mut Report,
) -> Result<bool, KernelError> {
    match desired.tunnel.in_use {
        true => Ok(false),
        false => addresses(platform, devices.by_name.get(TUNNEL), None, report),
    }
}

fn refused(error: &EncapError, report: &mut Report) {
    match error {
        EncapError::Kernel(error) => report.error(error),
        other => {
            report.errors.insert(report::line(other));
        }
    }
}

/// Makes `wanted` the only address of the device.
fn addresses(
    platform: &mut dyn Platform,
    device: Option<&Link>,
    wanted: Option<Ipv4Net>,
    report: &mut Report,
) -> Result<bool, KernelError> {
    let Some(device) = device else {
        return Ok(false);
    };
    let here = |address: &Address| address.interface == device.index;
    let actual: Vec<Address> = platform.addresses()?.into_iter().filter(here).collect();
    let mut changed = false;
    // First the new one: with the last address of a device the kernel drops its routes.
    if let Some(address) = wanted.filter(|wanted| !actual.iter().any(|a| a.address == *wanted)) {
        changed |= written(
            platform.add_address(&Address {
                interface: device.index,
                address,
            }),
            report,
        );
    }
    for address in actual
        .iter()
        .filter(|address| Some(address.address) != wanted)
    {
        changed |= written(platform.remove_address(address), report);
    }
    Ok(changed)
}

fn written(result: Result<(), KernelError>, report: &mut Report) -> bool {
    match result {
        Ok(()) => report.changes.addresses += 1,
        Err(ref error) => report.error(error),
    }
    result.is_ok()
}
