//! What can be asked without privileges, of whatever namespace the tests run in.

use super::*;
use crate::platform::{Addresses, Links, Neighbours, Routes};

#[test]
fn the_tables_of_the_running_kernel_can_be_read() {
    let mut kernel = Kernel::new().unwrap();
    let links = kernel.links().unwrap();
    let lo = links
        .iter()
        .find(|link| link.name == "lo")
        .expect("every namespace has lo");
    assert_eq!((lo.index, lo.kind.as_str()), (1, ""));
    assert!(lo.mtu > 0);

    for address in kernel.addresses().unwrap() {
        assert!(
            links.iter().any(|link| link.index == address.interface),
            "{address:?}"
        );
    }
    for route in kernel.routes().unwrap() {
        assert!(
            route.table != 255,
            "the kernel's own table is left out: {route}"
        );
        assert_eq!(route.destination, route.destination.trunc());
    }
    for neighbour in kernel.neighbours().unwrap() {
        assert!(
            links.iter().any(|link| link.index == neighbour.interface),
            "{neighbour:?}"
        );
    }
}

#[test]
fn a_refusal_names_operation_object_and_reason() {
    let mut kernel = Kernel::new().unwrap();
    // There is no such interface, and without privileges the answer is "not permitted".
    let error = kernel.remove(u32::MAX >> 1).unwrap_err();
    assert_eq!(error.operation, "remove link");
    let text = crate::report::line(&error);
    assert!(text.starts_with("cannot remove link #2147483647"), "{text}");
    assert!(text.contains("os error"), "{text}");
}

#[test]
fn a_route_survives_the_way_to_netlink_and_back() {
    use crate::platform::{MAIN_TABLE, Route, RouteKind};
    let tunnel = Route {
        destination: "192.168.2.0/24".parse().unwrap(),
        table: MAIN_TABLE,
        metric: 0,
        tos: 0,
        protocol: 80,
        kind: RouteKind::Unicast,
        link_scope: false,
        gateway: Some([10, 12, 22, 3].into()),
        interface: Some(7),
        onlink: true,
        mtu: Some(1440),
        extras: false,
    };
    let pod = Route {
        destination: "192.168.1.12/32".parse().unwrap(),
        link_scope: true,
        gateway: None,
        onlink: false,
        mtu: None,
        ..tunnel.clone()
    };
    let blackhole = Route {
        kind: RouteKind::Blackhole,
        interface: None,
        link_scope: false,
        ..pod.clone()
    };
    let elsewhere = Route {
        table: 1000,
        metric: 5,
        tos: 8,
        ..tunnel.clone()
    };
    for route in [tunnel, pod, blackhole, elsewhere] {
        assert_eq!(route::parse(&route::build(&route)).as_ref(), Some(&route));
    }
}
