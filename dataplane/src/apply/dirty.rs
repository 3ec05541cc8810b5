//! One sync is enough, whatever a former life, a CNI plugin or an administrator has left: a second
//! one writes nothing.

use std::time::Duration;

use proptest::prelude::*;

use super::fake::FakeKernel;
use super::*;
use crate::datastore::Mode;
use crate::encap::{Choice, candidates};
use crate::fixtures::{cases, pool, seed};
use crate::mac::Mac;
use crate::platform::{Neighbour, RouteKind, Routes};

const NODE: &str = "k8s-worker-1";
const PODS: [&str; 4] = [
    "cali0005aea454a",
    "calid9d486e54a8",
    "calied9d42cb137",
    "calistray",
];
/// Wanted ones, and strange ones.
const DESTINATIONS: [&str; 7] = [
    "192.168.0.0/24",
    "192.168.1.0/24",
    "192.168.1.2/32",
    "192.168.1.12/32",
    "192.168.2.0/24",
    "192.168.77.0/24",
    "192.168.1.99/32",
];
const TUNNEL_ADDRESSES: [&str; 3] = ["192.168.1.0/32", "192.168.1.200/32", "10.0.0.1/24"];

/// Which tunnel device there is: none, one that works, and what may be in its place.
fn tunnel(kernel: &mut FakeKernel, kind: u8) {
    match kind {
        0 => {}
        1 => drop(kernel.add_link(TUNNEL, "ipip")),
        2 => drop(kernel.add_link("tunl0-ipip", "ipip")),
        3 => drop(kernel.add_link("stray", "ipip")),
        _ => {
            let (one, other) = (
                kernel.add_link(TUNNEL, "veth"),
                kernel.add_link("stray", "veth"),
            );
            kernel.link_mut(TUNNEL).peer = Some(other);
            kernel.link_mut("stray").peer = Some(one);
        }
    }
}

/// A route by numbers, which choose among what there is.
type AnyRoute = (usize, usize, usize, usize, bool, usize);

fn route(
    (destination, protocol, table, metric, onlink, device): AnyRoute,
    links: &[Link],
) -> Route {
    // One more than there are: the blackhole.
    let interface = links.get(device % (links.len() + 1)).map(|link| link.index);
    Route {
        destination: DESTINATIONS[destination % DESTINATIONS.len()]
            .parse()
            .unwrap(),
        table: [MAIN_TABLE, 100][table % 2],
        metric: [0, 0, 10][metric % 3],
        tos: 0,
        protocol: [PROTOCOL, 2, 3, 4, 12][protocol % 5],
        kind: match interface {
            Some(_) => RouteKind::Unicast,
            None => RouteKind::Blackhole,
        },
        link_scope: !onlink && interface.is_some(),
        gateway: (onlink && interface.is_some()).then_some([10, 12, 22, 3].into()),
        interface,
        onlink: onlink && interface.is_some(),
        mtu: onlink.then_some(1440),
        extras: false,
    }
}

fn dirty() -> impl Strategy<Value = FakeKernel> {
    let pods = prop::collection::vec((any::<bool>(), any::<bool>()), PODS.len());
    let number = || 0..100usize;
    let routes = (
        number(),
        number(),
        number(),
        number(),
        any::<bool>(),
        number(),
    );
    let neighbours = (number(), 0..DESTINATIONS.len(), any::<u8>());
    (
        (
            0..5u8,
            any::<bool>(),
            prop_oneof![Just(1440u32), 1000..9000u32],
        ),
        pods,
        prop::sample::subsequence(TUNNEL_ADDRESSES.to_vec(), 0..=3),
        prop::collection::vec(routes, 0..20),
        prop::collection::vec(neighbours, 0..6),
        prop::collection::vec(0..4u8, PODS.len()),
    )
        .prop_map(
            |((kind, up, mtu), pods, addresses, routes, neighbours, sysctls)| {
                let mut kernel = FakeKernel::with_underlay();
                tunnel(&mut kernel, kind);
                for (name, (there, up)) in PODS.iter().zip(pods) {
                    if there {
                        kernel.add_link(name, "veth");
                        kernel.link_mut(name).up = up;
                    }
                }
                if let Some(tunnel) = kernel.links.iter_mut().find(|link| link.name == TUNNEL) {
                    (tunnel.up, tunnel.mtu) = (up, mtu);
                    let interface = tunnel.index;
                    let addresses = addresses.into_iter().map(|address| Address {
                        interface,
                        address: address.parse().unwrap(),
                    });
                    kernel.addresses.extend(addresses);
                }
                let links = kernel.links.clone();
                for numbers in routes {
                    kernel.replace_routes(&[route(numbers, &links)]);
                }
                for (device, address, mac) in neighbours {
                    let interface = links[device % links.len()].index;
                    let address: Ipv4Net = DESTINATIONS[address].parse().unwrap();
                    let address = address.addr();
                    kernel
                        .neighbours
                        .retain(|n| (n.interface, n.address) != (interface, address));
                    let mac = Mac([2, 0, 0, 0, 0, mac]);
                    kernel.neighbours.push(Neighbour {
                        interface,
                        address,
                        mac,
                    });
                }
                for (name, value) in PODS.iter().zip(sysctls) {
                    for (sysctl, bit) in [("forwarding", 1), ("proxy_arp", 2)] {
                        let value = (value & bit != 0) as u8;
                        kernel
                            .sysctls
                            .insert(format!("net/ipv4/conf/{name}/{sysctl}"), value.to_string());
                    }
                }
                kernel
            },
        )
}

/// One sync of a life that has just begun.
fn sync_once(kernel: &mut FakeKernel, desired: &Desired) -> Report {
    let mut filter = Filter::default();
    filter.apply(kernel, &Ruleset::new(desired)).unwrap();
    kernel.log.clear();
    let mut backend = candidates(Choice::Kernel).remove(0);
    let pass = Pass {
        thorough: true,
        now: Instant::now(),
        newcomers: &mut Newcomers::new(Duration::ZERO),
    };
    sync(kernel, &mut *backend, &mut filter, desired, pass).unwrap()
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_second_sync_writes_nothing(
        mut kernel in dirty(),
        mode in prop_oneof![Just(Mode::Always), Just(Mode::CrossSubnet), Just(Mode::Never)],
    ) {
        let mut snapshot = seed();
        snapshot.pools.insert("default".into(), pool("192.168.0.0/16", mode));
        let mac = Some(Mac([2, 0, 0, 0, 0, 9]));
        for endpoint in snapshot.endpoints.values_mut() {
            endpoint.mac = mac;
        }
        let desired = Desired::compute(&snapshot, NODE).unwrap();
        let before = kernel.clone();
        let report = sync_once(&mut kernel, &desired);
        prop_assert!(report.errors.is_empty(), "{:?}", report.errors);
        let log = std::mem::take(&mut kernel.log);
        // What is somebody else's is as it was.
        let theirs = |route: &&Route| route.interface == Some(1) && route.protocol != PROTOCOL;
        let wanted = |route: &&Route| desired.routes.contains_key(&route.destination);
        for route in before.routes.iter().filter(theirs).filter(|route| !wanted(route)) {
            prop_assert!(kernel.routes.contains(route), "{route} went: {log:?}");
        }

        let report = sync_once(&mut kernel, &desired);
        prop_assert_eq!(&kernel.log, &[] as &[&str], "after {:?}", log);
        prop_assert_eq!(report.changes.total(), 0);
    }
}
