//! The routes: which are missing, which are to go, and which are none of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ipnet::Ipv4Net;

use super::{Devices, Pass, Report};
use crate::desired::{Desired, Target};
use crate::encap::TUNNEL;
use crate::platform::{KernelError, MAIN_TABLE, Platform, Route, RouteKind};

/// `proto 80`: what Calico's Felix marks its routes with.
pub(crate) const PROTOCOL: u8 = 80;
const KERNEL: u8 = 2;
const STATIC: u8 = 4;
const BIRD: u8 = 12;

pub(super) fn apply(
    platform: &mut dyn Platform,
    desired: &Desired,
    devices: &Devices,
    pass: &Pass<'_>,
    report: &mut Report,
) -> Result<(), KernelError> {
    let wanted = resolve(desired, devices);
    for destination in wanted.waiting.keys() {
        if let Some(Target::Pod(interface)) = desired.routes.get(destination) {
            report.pods_waiting.insert(interface.clone());
        }
    }
    let owned = Owned::new(devices, pass);
    let plan = plan(&wanted, &platform.routes()?, &owned);
    report.look_again = plan.look_again;
    report.conflicts = plan.conflicts.iter().map(Route::to_string).collect();

    let refused = platform.replace_routes(&plan.replace);
    report.changes.routes += report.all(plan.replace.len(), &refused);
    report.routes = (wanted.routes.len() - plan.conflicts.len()).saturating_sub(refused.len());
    // Which of many was refused is not told.
    if refused.is_empty() {
        report.placed = wanted.routes;
        for conflict in &plan.conflicts {
            report.placed.remove(&conflict.destination);
        }
    }
    let refused = platform.remove_routes(&plan.remove);
    report.changes.routes += report.all(plan.remove.len(), &refused);
    Ok(())
}

/// The desired routes as the kernel is to have them.
#[derive(Debug, Default)]
struct Wanted {
    routes: BTreeMap<Ipv4Net, Route>,
    /// Destinations whose interface is not there or down.
    waiting: BTreeMap<Ipv4Net, Awaited>,
}

/// What a destination waits for.
#[derive(Debug)]
enum Awaited {
    /// A pod's interface; its index if it is there.
    Pod(Option<u32>),
    /// The tunnel or the underlay.
    Node,
}

impl Awaited {
    /// Whether a route that is there may be the right one once that is back; then it stays, and no
    /// packet is lost. A pod's route on another interface never is: that interface has perhaps lost
    /// the pod's name.
    fn may_be(&self, route: &Route) -> bool {
        match self {
            Self::Pod(interface) => interface.is_some() && route.interface == *interface,
            Self::Node => true,
        }
    }
}

fn resolve(desired: &Desired, devices: &Devices) -> Wanted {
    let underlay = devices.underlay.as_ref().filter(|link| link.up);
    let tunnel = underlay.and(devices.up(TUNNEL));
    let mut wanted = Wanted::default();
    for (&destination, target) in &desired.routes {
        let route = match target {
            Target::Blackhole => Some(Route {
                kind: RouteKind::Blackhole,
                ..plain(destination)
            }),
            Target::Pod(interface) => devices.up(interface).map(|link| Route {
                link_scope: true,
                interface: Some(link.index),
                ..plain(destination)
            }),
            Target::Tunnel(gateway) => tunnel.map(|link| Route {
                gateway: Some(*gateway),
                interface: Some(link.index),
                onlink: true,
                mtu: Some(link.mtu),
                ..plain(destination)
            }),
            Target::Underlay(gateway) => underlay.map(|link| Route {
                gateway: Some(*gateway),
                interface: Some(link.index),
                onlink: true,
                ..plain(destination)
            }),
        };
        match route {
            Some(route) => {
                wanted.routes.insert(destination, route);
            }
            None => {
                let awaited = match target {
                    Target::Pod(name) => {
                        Awaited::Pod(devices.by_name.get(&**name).map(|link| link.index))
                    }
                    _ => Awaited::Node,
                };
                wanted.waiting.insert(destination, awaited);
            }
        }
    }
    wanted
}

fn plain(destination: Ipv4Net) -> Route {
    Route {
        destination,
        table: MAIN_TABLE,
        metric: 0,
        tos: 0,
        protocol: PROTOCOL,
        kind: RouteKind::Unicast,
        link_scope: false,
        gateway: None,
        interface: None,
        onlink: false,
        mtu: None,
        extras: false,
    }
}

/// Which routes belong to the agent.
struct Owned {
    /// The pods' interfaces, known to the datastore or not.
    pods: BTreeSet<u32>,
    /// Those of them that are new, and until when they are: whoever wires the pod may be ahead
    /// of the datastore.
    new: BTreeMap<u32, Instant>,
    tunnel: Option<u32>,
}

impl Owned {
    fn new(devices: &Devices, pass: &Pass<'_>) -> Self {
        Self {
            pods: pass.newcomers.interfaces().collect(),
            new: pass.newcomers.until(pass.now),
            tunnel: devices.by_name.get(TUNNEL).map(|link| link.index),
        }
    }

    /// Until when to leave a route alone that nobody asked for. One of our own protocol is ours
    /// and stale: it would draw packets away from where the address is now.
    fn spared(&self, route: &Route) -> Option<Instant> {
        let interface = route.interface.filter(|_| route.protocol != PROTOCOL)?;
        self.new.get(&interface).copied()
    }

    /// Ours whoever made it.
    fn is_ours(&self, route: &Route) -> bool {
        route.protocol == PROTOCOL
            || route.table == MAIN_TABLE && (self.is_a_pods(route) || self.is_birds(route))
    }

    fn is_a_pods(&self, route: &Route) -> bool {
        route.protocol != KERNEL
            && route
                .interface
                .is_some_and(|index| self.pods.contains(&index))
    }

    /// Left behind by the routing daemon that used to fill the tunnel.
    fn is_birds(&self, route: &Route) -> bool {
        route.protocol == BIRD && self.tunnel.is_some() && route.interface == self.tunnel
    }

    /// The administrator's, who knows what he is doing even in the place of one of ours.
    fn is_sacred(&self, route: &Route) -> bool {
        route.protocol == STATIC && !self.is_a_pods(route)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    replace: Vec<Route>,
    remove: Vec<Route>,
    /// In the place of a wanted route, and not ours to replace.
    conflicts: Vec<Route>,
    /// When the first of those ceases to be left alone that are for now.
    look_again: Option<Instant>,
}

/// What to change so that `actual` holds everything wanted and nothing stale of ours.
fn plan(wanted: &Wanted, actual: &[Route], owned: &Owned) -> Plan {
    let mut plan = Plan::default();
    let mut present: BTreeMap<Ipv4Net, Vec<&Route>> = BTreeMap::new();
    for route in actual
        .iter()
        .filter(|r| r.table == MAIN_TABLE && r.metric == 0 && r.tos == 0)
    {
        present.entry(route.destination).or_default().push(route);
    }
    for (destination, route) in &wanted.routes {
        let here = present.get(destination).map_or(&[][..], Vec::as_slice);
        if here.contains(&route) {
            continue;
        }
        match here.iter().find(|route| owned.is_sacred(route)) {
            Some(conflict) => plan.conflicts.push((*conflict).clone()),
            None => plan.replace.push(route.clone()),
        }
    }
    let replaced: BTreeSet<Ipv4Net> = plan.replace.iter().map(|route| route.destination).collect();
    for route in actual.iter().filter(|route| owned.is_ours(route)) {
        let right = wanted.routes.get(&route.destination) == Some(route);
        let in_place = route.table == MAIN_TABLE && route.metric == 0 && route.tos == 0;
        let overwritten = in_place && replaced.contains(&route.destination);
        let awaited = wanted.waiting.get(&route.destination);
        let waits = in_place && awaited.is_some_and(|awaited| awaited.may_be(route));
        if right || overwritten || waits {
            continue;
        }
        match owned.spared(route) {
            Some(until) => {
                let first = plan.look_again.map_or(until, |first| first.min(until));
                plan.look_again = Some(first);
            }
            None => plan.remove.push(route.clone()),
        }
    }
    plan
}

#[cfg(test)]
mod tests;
