//! `podlab-agent cleanup`: removes what the agent has made, and nothing else.
//!
//! Ours are, without a look into the datastore, which may be gone:
//!
//! - routes of protocol 80, in whatever table;
//! - permanent neighbours on `cali*`;
//! - `tunl0` with its addresses. A fallback `tunl0` of the ipip module cannot be removed; it is
//!   left down and without addresses, as the module makes it;
//! - our tc filter, on whatever interface;
//! - the nftables table `podlab`.
//!
//! Interfaces of pods belong to whoever wired them. An empty clsact stays where our filter was:
//! whose it is cannot be told. Sysctls stay: what they were before is not known,
//! and others may rely on forwarding by now. While somebody else's route leads into `tunl0` the
//! device stays with its address, since the kernel would drop that route with either of them.

use std::process::ExitCode;

use super::replica::Replica;
use super::status::route_text;
use crate::apply::{POD_INTERFACES, PROTOCOL};
use crate::encap::{self, TUNNEL};
use crate::failure::Failure;
use crate::netlink::{Kernel, tables};
use crate::platform::{KernelError, Link, Platform, Route};
use crate::report;

/// Name of the agent's one nftables table.
const TABLE: &str = "podlab";
/// `proto kernel`: routes that come and go with an address.
const KERNEL_PROTOCOL: u8 = 2;

/// What was done, and what was not.
#[derive(Debug, Default)]
struct Outcome {
    removed: Vec<String>,
    kept: Vec<String>,
    errors: Vec<String>,
    lacks_privilege: bool,
}

impl Outcome {
    fn error(&mut self, error: &KernelError) {
        self.lacks_privilege |= error.is_privilege();
        self.errors.push(report::line(error));
    }

    /// Notes what was removed, if it was.
    fn note(&mut self, what: String, result: Result<(), KernelError>) {
        match result {
            Ok(()) => self.removed.push(what),
            Err(error) => self.error(&error),
        }
    }
}

/// Removes what is ours, or with `dry_run` only says what that is.
///
/// # Errors
/// When the kernel cannot be read, or refuses for lack of privileges.
pub(crate) fn run(dry_run: bool) -> Result<ExitCode, Failure> {
    let mut kernel = Kernel::new().map_err(Failure::missing)?;
    let mut outcome = Outcome::default();
    if dry_run {
        let mut replica = Replica::of(&mut kernel, "/proc/sys").map_err(Failure::missing)?;
        sweep(&mut replica, &mut outcome).map_err(Failure::missing)?;
    } else {
        sweep(&mut kernel, &mut outcome).map_err(Failure::missing)?;
    }
    for table in tables::named(TABLE).map_err(Failure::missing)? {
        let result = if dry_run {
            Ok(())
        } else {
            tables::remove(&table)
        };
        outcome.note(format!("nftables table {table}"), result);
    }
    print(dry_run, outcome)
}

fn print(dry_run: bool, outcome: Outcome) -> Result<ExitCode, Failure> {
    let verb = if dry_run { "would remove" } else { "removed" };
    for what in &outcome.removed {
        println!("{verb} {what}");
    }
    for why in &outcome.kept {
        println!("kept {why}");
    }
    if outcome.errors.is_empty() {
        if outcome.removed.is_empty() && outcome.kept.is_empty() {
            println!("nothing here is the agent's");
        }
        return Ok(ExitCode::SUCCESS);
    }
    Err(match outcome.lacks_privilege {
        true => Failure::refused(&outcome.errors.into_iter().collect()),
        false => Failure::incomplete(&outcome.errors),
    })
}

/// Programs, routes, neighbours and the tunnel.
fn sweep(platform: &mut dyn Platform, outcome: &mut Outcome) -> Result<(), encap::EncapError> {
    // Packets that arrive must not be taken any more when the tunnel goes.
    for (what, result) in encap::stop(platform)? {
        outcome.note(what, result);
    }
    let links = platform.links()?;
    let name = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("#{index}"), |link| link.name.clone())
    };
    let ours = |route: &Route| route.protocol == PROTOCOL;
    let mut routes = platform.routes()?;
    routes.retain(ours);
    let refused = platform.remove_routes(&routes);
    refused.iter().for_each(|error| outcome.error(error));
    let left = platform.routes()?;
    let gone = routes.iter().filter(|route| !left.contains(route));
    outcome
        .removed
        .extend(gone.map(|route| route_text(route, name)));

    let mut neighbours = platform.neighbours()?;
    neighbours.retain(|n| name(n.interface).starts_with(POD_INTERFACES));
    let refused = platform.remove_neighbours(&neighbours);
    refused.iter().for_each(|error| outcome.error(error));
    let still = platform.neighbours()?;
    let gone = neighbours.iter().filter(|n| !still.contains(n));
    outcome
        .removed
        .extend(gone.map(|n| format!("neighbour {} dev {}", n.address, name(n.interface))));

    let tunnel = links.iter().find(|link| link.name == TUNNEL);
    let guests: Vec<&Route> = tunnel.map_or_else(Vec::new, |tunnel| guests(&left, tunnel));
    if guests.is_empty() {
        match encap::clean(platform) {
            Ok(removed) => outcome.removed.extend(removed),
            Err(encap::EncapError::Kernel(error)) => outcome.error(&error),
            Err(other) => return Err(other),
        }
    }
    for guest in guests {
        let route = route_text(guest, name);
        outcome
            .kept
            .push(format!("link {TUNNEL}: somebody else's {route}"));
    }
    Ok(())
}

/// Somebody else's routes that the kernel would drop with the device.
fn guests<'a>(routes: &'a [Route], tunnel: &Link) -> Vec<&'a Route> {
    let theirs = |route: &&Route| {
        route.interface == Some(tunnel.index)
            && ![PROTOCOL, KERNEL_PROTOCOL].contains(&route.protocol)
    };
    routes.iter().filter(theirs).collect()
}

#[cfg(test)]
mod tests;
