//! From the desired state to the kernel: look, compare, write the difference.
//!
//! One [`sync`] goes through everything, in an order in which no packet is lost that had a way
//! before and has one after: the packet filter before anything is forwarded, the tunnel before the routes into it, new routes before the
//! removal of old ones, a new address before the removal of the last.
//!
//! What cannot be done yet (an interface that is not there) is no error: the kernel's event
//! about it starts the next sync.

#[cfg(test)]
mod dirty;
#[cfg(test)]
pub(crate) mod fake;
mod newcomers;
mod pods;
mod put_back;
mod routes;
#[cfg(test)]
mod tests;
mod tunnel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use ipnet::Ipv4Net;

use crate::desired::Desired;
use crate::encap::{Encapsulation, TUNNEL};
use crate::filter::{Filter, FilterError, Ruleset};
use crate::netlink::events::Event;
use crate::platform::{Address, KernelError, Link, MAIN_TABLE, Platform, Route};
use crate::report;

pub(crate) use newcomers::Newcomers;
pub(crate) use put_back::put_back;
pub(crate) use routes::PROTOCOL;

/// How the names of the host's ends of pods' veth pairs begin.
pub(crate) const POD_INTERFACES: &str = "cali";

/// What a pass goes by besides the desired state.
pub(crate) struct Pass<'a> {
    /// Whether to look also after what the kernel sends no events about.
    pub thorough: bool,
    /// When it is.
    pub now: Instant,
    /// The pods' interfaces of the last pass, brought up to date by this one.
    pub newcomers: &'a mut Newcomers,
}

/// What one [`sync`] found and did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What was written or removed.
    pub changes: Changes,
    /// Routes that are in place, as they should be.
    pub routes: usize,
    /// The same as values, unless the kernel refused some.
    pub placed: BTreeMap<Ipv4Net, Route>,
    /// Indices of the pods' interfaces and the tunnel, for [`concerns`].
    pub interfaces: BTreeSet<u32>,
    /// The MTU of pods that are wired from now on; `None` without an underlay.
    pub pod_mtu: Option<u32>,
    /// When routes are to be looked at again that are left alone until then.
    pub look_again: Option<Instant>,
    /// What keeps the node's own part from being complete: the agent is not ready.
    pub not_ready: BTreeSet<String>,
    /// Local pods whose interface is not there or down.
    pub pods_waiting: BTreeSet<String>,
    /// Routes of an administrator in the place of one of ours.
    pub conflicts: BTreeSet<String>,
    /// What the kernel refused, each on one line.
    pub errors: BTreeSet<String>,
    /// Why there is no packet filter here; the rest works without.
    pub unprotected: Option<String>,
    /// Some of it for lack of privileges, which trying again does not mend.
    pub lacks_privilege: bool,
}

/// How many objects of each kind were written or removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub tunnels: usize,
    pub addresses: usize,
    pub routes: usize,
    pub neighbours: usize,
    pub sysctls: usize,
    pub filters: usize,
}

impl Changes {
    /// Each kind by its name.
    pub(crate) fn by_kind(&self) -> [(&'static str, usize); 6] {
        [
            ("tunnel", self.tunnels),
            ("address", self.addresses),
            ("route", self.routes),
            ("neighbour", self.neighbours),
            ("sysctl", self.sysctls),
            ("filter", self.filters),
        ]
    }

    pub(crate) fn total(&self) -> usize {
        self.by_kind().iter().map(|(_, number)| number).sum()
    }
}

impl Report {
    fn error(&mut self, error: &KernelError) {
        self.lacks_privilege |= error.is_privilege();
        self.errors.insert(report::line(error));
    }

    /// Of `tried` requests these were refused. Returns how many were not.
    fn all(&mut self, tried: usize, errors: &[KernelError]) -> usize {
        errors.iter().for_each(|error| self.error(error));
        tried - errors.len().min(tried)
    }
}

/// The interfaces of the node, by what the agent uses them for.
struct Devices {
    by_name: BTreeMap<String, Link>,
    underlay: Option<Link>,
}

impl Devices {
    fn new(links: &[Link], addresses: &[Address], own: Ipv4Addr) -> Self {
        let underlay = addresses
            .iter()
            .find(|address| address.address.addr() == own)
            .and_then(|address| links.iter().find(|link| link.index == address.interface))
            .cloned();
        let by_name = links
            .iter()
            .map(|link| (link.name.clone(), link.clone()))
            .collect();
        Self { by_name, underlay }
    }

    /// An interface that carries packets now.
    fn up(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name).filter(|link| link.up)
    }
}

/// Brings the kernel to `desired`.
///
/// # Errors
/// Only when the kernel cannot even be read; what it refuses to change is in the report.
pub(crate) fn sync(
    platform: &mut dyn Platform,
    encapsulation: &mut dyn Encapsulation,
    filter: &mut Filter,
    desired: &Desired,
    pass: Pass<'_>,
) -> Result<Report, KernelError> {
    let mut report = Report::default();
    match filter.apply(platform, &Ruleset::new(desired)) {
        Ok(written) => report.changes.filters += usize::from(written),
        Err(FilterError::Missing(why)) => report.unprotected = Some(why),
        Err(FilterError::Refused(error)) => report.error(&error),
    }
    match platform.set("net/ipv4/ip_forward", "1") {
        Ok(written) => report.changes.sysctls += usize::from(written),
        Err(error) => report.error(&error),
    }
    let mut devices = read(platform, desired)?;
    if tunnel::apply(
        platform,
        encapsulation,
        desired,
        &devices,
        pass.thorough,
        &mut report,
    )? {
        devices = read(platform, desired)?;
    }
    pods::sysctls(platform, desired, &devices, &mut report);
    let links = devices.by_name.values();
    pass.newcomers.look(links, desired, pass.now);
    routes::apply(platform, desired, &devices, &pass, &mut report)?;
    pods::neighbours(platform, desired, &devices, &mut report)?;
    if tunnel::strip(platform, desired, &devices, &mut report)? {
        // With the device's last address its routes are gone, an administrator's among them that
        // was in the place of a wanted one.
        routes::apply(platform, desired, &devices, &pass, &mut report)?;
    }
    let tunnel = devices.by_name.get(TUNNEL).map(|link| link.index);
    report.interfaces = pass.newcomers.interfaces().chain(tunnel).collect();
    Ok(report)
}

fn read(platform: &mut dyn Platform, desired: &Desired) -> Result<Devices, KernelError> {
    let links = platform.links()?;
    let addresses = platform.addresses()?;
    Ok(Devices::new(&links, &addresses, desired.address.addr()))
}

/// Whether an event may have taken the kernel away from `desired`. `interfaces` are those of
/// the last [`Report`].
///
/// Events about what is none of ours are many (every pod's ARP, every route of a routing daemon)
/// and cost nothing but this look.
pub(crate) fn concerns(event: &Event, desired: &Desired, interfaces: &BTreeSet<u32>) -> bool {
    match event {
        Event::Link | Event::Address | Event::Lost => true,
        // The filter knows which generation is its own, and the encapsulation what it uses:
        // `Filter::concerns` and `Encapsulation::concerns`.
        Event::Ruleset { .. } | Event::TcFilter { .. } => false,
        Event::Parameters {
            interface,
            forwarding,
            proxy_arp,
        } => {
            // What they are set to is nearly always what we have set them to.
            let undone = *forwarding == Some(false) || *proxy_arp == Some(false);
            let ours = interface.is_none_or(|index| interfaces.contains(&index));
            undone && ours
        }
        Event::Route {
            route:
                Route {
                    destination,
                    table,
                    protocol,
                    interface,
                    ..
                },
            ..
        } => {
            *protocol == PROTOCOL
                || *table == MAIN_TABLE
                    && (desired.routes.contains_key(destination)
                        || interface.is_some_and(|index| interfaces.contains(&index)))
        }
        Event::Neighbour { interface, address } => {
            interfaces.contains(interface)
                && desired
                    .neighbours
                    .keys()
                    .any(|(_, wanted)| wanted == address)
        }
    }
}
