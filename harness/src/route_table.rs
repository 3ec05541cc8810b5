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
mod tests {
    use super::*;
    use crate::netlink::{RouteProtocol, RouteScope};

    fn row(destination: &str, kind: RouteKind) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            kind,
            gateway: None,
            interface: None,
            source: None,
            protocol: RouteProtocol::CALICO,
            scope: RouteScope::Universe,
            tos: 0,
            metric: 0,
            mtu: None,
            onlink: false,
        }
    }

    fn via(destination: &str, gateway: &str, interface: &str) -> Route {
        Route {
            gateway: Some(gateway.parse().unwrap()),
            ..link(destination, interface)
        }
    }

    fn link(destination: &str, interface: &str) -> Route {
        Route {
            interface: Some(interface.to_owned()),
            ..row(destination, RouteKind::Unicast)
        }
    }

    fn lines(routes: &[Route]) -> String {
        let text = route_n(routes);
        text.strip_prefix(HEADER).unwrap().to_owned()
    }

    /// The table of k8s-worker-1 in the document that the seed scenario reproduces.
    #[test]
    fn the_seeds_table_is_printed_verbatim() {
        let routes = [
            via("192.168.2.0/24", "10.12.22.3", "tunl0"),
            via("192.168.0.0/24", "10.12.22.1", "tunl0"),
            link("192.168.1.10/32", "calid9d486e54a8"),
            link("192.168.1.12/32", "calied9d42cb137"),
            link("192.168.1.2/32", "cali0005aea454a"),
            row("192.168.1.0/24", RouteKind::Blackhole),
            link("10.12.0.0/16", "ens192"),
            via("0.0.0.0/0", "10.12.0.1", "ens192"),
        ];
        let expected = "\
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         10.12.0.1       0.0.0.0         UG    0      0        0 ens192
10.12.0.0       0.0.0.0         255.255.0.0     U     0      0        0 ens192
192.168.0.0     10.12.22.1      255.255.255.0   UG    0      0        0 tunl0
192.168.1.0     0.0.0.0         255.255.255.0   U     0      0        0 *
192.168.1.2     0.0.0.0         255.255.255.255 UH    0      0        0 cali0005aea454a
192.168.1.10    0.0.0.0         255.255.255.255 UH    0      0        0 calid9d486e54a8
192.168.1.12    0.0.0.0         255.255.255.255 UH    0      0        0 calied9d42cb137
192.168.2.0     10.12.22.3      255.255.255.0   UG    0      0        0 tunl0
";
        assert_eq!(route_n(&routes), expected);
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(route_n(&[]), HEADER);
    }

    #[test]
    fn routes_that_answer_with_an_error_have_no_gateway_and_no_counters() {
        let routes = [
            row("192.168.3.0/24", RouteKind::Unreachable),
            row("192.168.3.1/32", RouteKind::Unreachable),
            Route {
                metric: 42,
                ..row("192.168.4.0/24", RouteKind::Prohibit)
            },
        ];
        let expected = "\
192.168.3.0     -               255.255.255.0   !     0      -        0 -
192.168.3.1     -               255.255.255.255 !H    0      -        0 -
192.168.4.0     -               255.255.255.0   !     42     -        0 -
";
        assert_eq!(lines(&routes), expected);
    }

    #[test]
    fn one_address_longest_prefix_first_then_highest_tos_then_lowest_metric() {
        let with_metric = |metric, route| Route { metric, ..route };
        let routes = [
            with_metric(100, via("0.0.0.0/0", "10.12.0.2", "ens192")),
            via("0.0.0.0/0", "10.12.0.1", "ens192"),
            via("128.0.0.0/1", "10.12.0.1", "ens192"),
            link("0.0.0.0/8", "ens192"),
            with_metric(u32::MAX, link("192.168.0.0/16", "tunl0")),
            with_metric(1_234_567, link("192.168.0.0/16", "ens192")),
            via("192.168.0.0/24", "10.12.22.1", "tunl0"),
            via("192.168.0.0/32", "10.12.0.3", "ens192"),
            Route {
                tos: 0x10,
                ..with_metric(2_000_000, link("192.168.0.0/16", "eth0"))
            },
        ];
        let expected = "\
0.0.0.0         0.0.0.0         255.0.0.0       U     0      0        0 ens192
0.0.0.0         10.12.0.1       0.0.0.0         UG    0      0        0 ens192
0.0.0.0         10.12.0.2       0.0.0.0         UG    100    0        0 ens192
128.0.0.0       10.12.0.1       128.0.0.0       UG    0      0        0 ens192
192.168.0.0     10.12.0.3       255.255.255.255 UGH   0      0        0 ens192
192.168.0.0     10.12.22.1      255.255.255.0   UG    0      0        0 tunl0
192.168.0.0     0.0.0.0         255.255.0.0     U     2000000 0        0 eth0
192.168.0.0     0.0.0.0         255.255.0.0     U     1234567 0        0 ens192
192.168.0.0     0.0.0.0         255.255.0.0     U     -1     0        0 tunl0
";
        assert_eq!(lines(&routes), expected);
    }

    #[test]
    fn host_bits_of_a_destination_are_not_shown() {
        assert_eq!(
            lines(&[link("10.12.22.2/16", "ens192")]),
            lines(&[link("10.12.0.0/16", "ens192")])
        );
    }
}
