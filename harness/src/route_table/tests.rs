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
