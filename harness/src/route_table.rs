//! Routes as `route -n` of net-tools prints them.
//!
//! People compare clusters by this text, so it is reproduced byte for byte: the order is the
//! kernel's (`/proc/net/route`), the flags are what the kernel computes there
//! (`fib_flag_trans` in `net/ipv4/fib_trie.c`), the columns are those of `rprint_fib` in
//! net-tools' `lib/inet_gr.c`.

use std::cmp::Reverse;
use std::net::Ipv4Addr;

use crate::netlink::{Route, RouteKind};

const HEADER: &str = "\
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
";

/// The text that `route -n` prints for `routes`, its two header lines and the final line end
/// included.
///
/// Routes may come in any order. Routes that are equal in all that the kernel sorts by keep
/// the order they come in, which is right for a dump from netlink.
pub(crate) fn route_n(routes: &[Route]) -> String {
    let mut rows: Vec<_> = routes.iter().collect();
    // The kernel walks its trie by address; of one address' routes the longest prefix comes
    // first, then the highest type of service, then the lowest metric.
    rows.sort_by_key(|row| {
        (
            row.destination.network(),
            Reverse(row.destination.prefix_len()),
            Reverse(row.tos),
            row.metric,
        )
    });
    rows.iter()
        .fold(HEADER.to_owned(), |text, row| text + &line(row) + "\n")
}

/// Whether the sender of a packet that takes the route is told that it cannot.
fn is_rejected(route: &Route) -> bool {
    matches!(route.kind, RouteKind::Unreachable | RouteKind::Prohibit)
}

/// A blackhole has no flag of its own: the kernel marks only routes that answer with an
/// error, and for those `route` overwrites the flags gathered so far.
fn flags(route: &Route) -> String {
    let state = match (is_rejected(route), route.gateway) {
        (true, _) => "!",
        (false, Some(_)) => "UG",
        (false, None) => "U",
    };
    let host = if route.destination.prefix_len() == 32 {
        "H"
    } else {
        ""
    };
    format!("{state}{host}")
}

/// One line of the table, without line end.
fn line(route: &Route) -> String {
    let destination = route.destination.network();
    let mask = route.destination.netmask();
    let flags = flags(route);
    // `route` reads the metric as a signed number.
    let metric = route.metric.cast_signed();
    // An address honours the width that it is printed with, so that the columns line up.
    if is_rejected(route) {
        return format!(
            "{destination:<15} -               {mask:<15} {flags:<5} {metric:<6} -  {:>7} -",
            0
        );
    }
    let gateway = route.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let interface = route.interface.as_deref().unwrap_or("*");
    format!(
        "{destination:<15} {gateway:<15} {mask:<15} {flags:<5} {metric:<6} {:<2} {:>7} {interface}",
        0, 0
    )
}

#[cfg(test)]
mod tests;
