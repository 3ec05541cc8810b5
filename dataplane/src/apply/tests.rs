use super::fake::FakeKernel;
use super::*;
use crate::datastore::{Mode, Snapshot};
use crate::encap::{Choice, candidates};
use crate::fixtures::{pool, seed};
use crate::mac::Mac;
use crate::platform::Neighbour;
use rstest::rstest;
use std::time::Duration;

const NODE: &str = "k8s-worker-1";
const PODS: [&str; 3] = ["cali0005aea454a", "calid9d486e54a8", "calied9d42cb137"];

/// Worker 1 with its pods wired and nothing programmed.
fn wired() -> FakeKernel {
    let mut kernel = FakeKernel::with_underlay();
    for pod in PODS {
        kernel.add_link(pod, "veth");
    }
    kernel
}

fn first_pass(newcomers: &mut Newcomers) -> Pass<'_> {
    Pass {
        thorough: true,
        now: Instant::now(),
        newcomers,
    }
}

/// One sync with the kernel backend, which does all it does through the platform. The packet
/// filter, which has tests of its own, is in place.
fn sync_to(kernel: &mut FakeKernel, snapshot: &Snapshot) -> Report {
    let desired = Desired::compute(snapshot, NODE).unwrap();
    let mut filter = Filter::default();
    filter.apply(kernel, &Ruleset::new(&desired)).unwrap();
    kernel.log.clear();
    let mut backend = candidates(Choice::Kernel).remove(0);
    let mut newcomers = Newcomers::new(Duration::ZERO);
    let pass = first_pass(&mut newcomers);
    let report = sync(kernel, &mut *backend, &mut filter, &desired, pass).unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    report
}

/// Before anything is forwarded, so that there is no moment without protection.
#[test]
fn the_packet_filter_comes_first() {
    let mut kernel = wired();
    let desired = Desired::compute(&seed(), NODE).unwrap();
    let mut backend = candidates(Choice::Kernel).remove(0);
    let mut filter = Filter::default();
    let mut newcomers = Newcomers::new(Duration::ZERO);
    let pass = first_pass(&mut newcomers);
    sync(&mut kernel, &mut *backend, &mut filter, &desired, pass).unwrap();
    assert_eq!(kernel.log[..2], ["load ruleset", "net/ipv4/ip_forward=1"]);
}

#[test]
fn a_bare_node_gets_the_seeds_routes_and_a_second_sync_writes_nothing() {
    let mut kernel = wired();
    let report = sync_to(&mut kernel, &seed());
    // ens192 is #1, the pods #2 to #4, tunl0 #5.
    assert_eq!(
        kernel.route_lines(),
        [
            "192.168.0.0/24 via 10.12.22.1 dev #5 proto 80",
            "192.168.1.10/32 dev #3 proto 80",
            "192.168.1.12/32 dev #4 proto 80",
            "192.168.1.2/32 dev #2 proto 80",
            "192.168.2.0/24 via 10.12.22.3 dev #5 proto 80",
            "blackhole 192.168.1.0/24 proto 80",
        ]
    );
    let remote = kernel
        .routes
        .iter()
        .find(|route| route.gateway.is_some())
        .unwrap();
    assert_eq!(
        (remote.onlink, remote.mtu, remote.link_scope),
        (true, Some(1440), false)
    );
    let pod = kernel
        .routes
        .iter()
        .find(|route| route.interface == Some(2))
        .unwrap();
    assert!(pod.link_scope, "a pod is a link away");
    assert_eq!(kernel.addresses[1].address.to_string(), "192.168.1.0/32");
    assert_eq!(kernel.sysctls["net/ipv4/ip_forward"], "1");
    assert_eq!(
        (
            report.routes,
            report.not_ready.len(),
            report.pods_waiting.len()
        ),
        (6, 0, 0)
    );

    let report = sync_to(&mut kernel, &seed());
    assert_eq!(kernel.log, [] as [&str; 0]);
    assert_eq!((report.changes.total(), report.routes), (0, 6));
}

#[test]
fn without_its_underlay_a_node_serves_its_own_pods_and_waits() {
    let mut kernel = wired();
    sync_to(&mut kernel, &seed());
    let before = kernel.route_lines();

    let address = kernel.addresses.remove(0);
    let report = sync_to(&mut kernel, &seed());
    assert!(
        report
            .not_ready
            .iter()
            .any(|why| why.contains("10.12.22.2")),
        "{report:?}"
    );
    assert_eq!(
        kernel.route_lines(),
        before,
        "routes into the tunnel may come true again"
    );

    let mut fresh = wired();
    fresh.addresses.clear();
    sync_to(&mut fresh, &seed());
    assert_eq!(fresh.route_lines().len(), 4, "the pods and the blackhole");
    fresh.addresses.push(address);
    assert!(sync_to(&mut fresh, &seed()).not_ready.is_empty());
    assert_eq!(fresh.route_lines().len(), 6);
}

/// A deleted route is put back by the number of its interface, and the interface may have lost the
/// pod's name meanwhile.
#[test]
fn a_route_stays_on_an_interface_that_is_down_and_goes_from_one_with_another_name() {
    let mut kernel = wired();
    sync_to(&mut kernel, &seed());
    let routes = kernel.route_lines();
    kernel.link_mut(PODS[2]).up = false;
    sync_to(&mut kernel, &seed());
    assert_eq!(kernel.route_lines(), routes, "it is down");
    let link = kernel.link_mut(PODS[2]);
    (link.name, link.up) = ("other0".to_owned(), true);
    let report = sync_to(&mut kernel, &seed());
    assert_eq!(report.pods_waiting, [PODS[2].to_owned()].into());
    assert_eq!(
        kernel.route_lines().len(),
        routes.len() - 1,
        "it is another"
    );
}

#[test]
fn a_pod_whose_interface_comes_late_gets_its_route_then() {
    let mut kernel = FakeKernel::with_underlay();
    kernel.add_link(PODS[0], "veth");
    kernel.add_link(PODS[1], "veth");
    let report = sync_to(&mut kernel, &seed());
    assert_eq!(report.pods_waiting, [PODS[2].to_owned()].into());
    assert!(
        report.not_ready.is_empty(),
        "one pod does not keep the node from being ready"
    );

    let index = kernel.add_link(PODS[2], "veth");
    kernel.link_mut(PODS[2]).up = false;
    assert_eq!(
        sync_to(&mut kernel, &seed()).pods_waiting.len(),
        1,
        "it is down"
    );
    kernel.link_mut(PODS[2]).up = true;
    assert!(sync_to(&mut kernel, &seed()).pods_waiting.is_empty());
    assert!(
        kernel
            .routes
            .iter()
            .any(|route| route.interface == Some(index))
    );
}

#[test]
fn without_encapsulation_the_tunnel_loses_its_address_and_keeps_its_device() {
    let mut kernel = wired();
    sync_to(&mut kernel, &seed());
    let mut never = seed();
    never
        .pools
        .insert("default".into(), pool("192.168.0.0/16", Mode::Never));
    sync_to(&mut kernel, &never);
    assert!(kernel.link("tunl0").up);
    assert_eq!(kernel.addresses.len(), 1, "only the underlay's");
    let last = kernel.log.last().map(String::as_str);
    assert_eq!(
        last,
        Some("remove 192.168.1.0/32"),
        "with it go the routes into the tunnel"
    );
    let remote = kernel
        .routes
        .iter()
        .find(|route| route.gateway.is_some())
        .unwrap();
    assert_eq!(
        (remote.interface, remote.onlink, remote.mtu),
        (Some(1), true, None)
    );

    sync_to(&mut kernel, &seed());
    assert_eq!(kernel.addresses.len(), 2, "and back");
}

#[test]
fn a_new_tunnel_address_comes_before_the_old_one_goes() {
    let mut kernel = wired();
    sync_to(&mut kernel, &seed());
    let mut moved = seed();
    moved.nodes.get_mut(NODE).unwrap().tunnel_address = Some("192.168.1.200".parse().unwrap());
    sync_to(&mut kernel, &moved);
    assert_eq!(
        kernel.log,
        ["add 192.168.1.200/32", "remove 192.168.1.0/32"]
    );
    assert_eq!(
        kernel.routes.len(),
        6,
        "with its last address a device loses its routes"
    );
}

#[test]
fn new_routes_are_written_before_stale_ones_go() {
    let mut kernel = wired();
    sync_to(&mut kernel, &seed());
    let mut moved = seed();
    let node = moved.nodes.get_mut("k8s-worker-2").unwrap();
    node.blocks = vec!["192.168.2.0/25".parse().unwrap()];
    sync_to(&mut kernel, &moved);
    assert_eq!(
        kernel.log,
        [
            "replace 192.168.2.0/25 via 10.12.22.3 dev #5 proto 80",
            "remove 192.168.2.0/24 via 10.12.22.3 dev #5 proto 80",
        ]
    );
}

#[test]
fn a_pods_interface_is_set_up_as_calico_does() {
    let mut kernel = wired();
    let pod = PODS[2];
    for (name, value) in [
        ("ipv4/conf/X/proxy_arp", "0"),
        ("ipv4/conf/X/forwarding", "0"),
        ("ipv4/conf/X/route_localnet", "0"),
        ("ipv4/neigh/X/proxy_delay", "80"),
        ("ipv6/conf/X/accept_ra", "1"),
        ("ipv4/conf/other/proxy_arp", "0"),
    ] {
        kernel
            .sysctls
            .insert(format!("net/{}", name.replace('X', pod)), value.into());
    }
    sync_to(&mut kernel, &seed());
    let value = |name: &str| kernel.sysctls[&format!("net/{}", name.replace('X', pod))].as_str();
    assert_eq!(value("ipv4/conf/X/proxy_arp"), "1");
    assert_eq!(value("ipv4/conf/X/forwarding"), "1");
    assert_eq!(value("ipv4/conf/X/route_localnet"), "1");
    assert_eq!(value("ipv4/neigh/X/proxy_delay"), "0");
    assert_eq!(value("ipv6/conf/X/accept_ra"), "0");
    assert_eq!(value("ipv4/conf/other/proxy_arp"), "0", "not a pod's");
}

#[test]
fn neighbours_of_pods_are_kept_right_and_others_are_left_alone() {
    let mut kernel = wired();
    let mut snapshot = seed();
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    snapshot
        .endpoints
        .get_mut(&(NODE.into(), PODS[2].into()))
        .unwrap()
        .mac = Some(mac);
    let neighbour = |interface, address: &str, mac| Neighbour {
        interface,
        address: address.parse().unwrap(),
        mac,
    };
    let wrong = neighbour(4, "192.168.1.12", Mac([2, 0, 0, 0, 0, 1]));
    let stale = neighbour(4, "192.168.1.99", mac);
    let foreign = neighbour(1, "10.12.0.1", mac);
    kernel.neighbours = vec![wrong, stale, foreign];
    sync_to(&mut kernel, &snapshot);
    assert_eq!(
        kernel.neighbours,
        [foreign, neighbour(4, "192.168.1.12", mac)]
    );
    sync_to(&mut kernel, &snapshot);
    assert_eq!(kernel.log, [] as [&str; 0]);
}

/// Interfaces 3 and 5 are ours; 192.168.2.0/24 is wanted.
#[rstest]
#[case::ours("192.168.99.0/24", 80, 254, Some(1), true)]
#[case::ours_elsewhere("192.168.99.0/24", 80, 100, None, true)]
#[case::in_the_place_of_a_wanted_one("192.168.2.0/24", 3, 254, Some(1), true)]
#[case::on_our_interface("192.168.99.0/24", 3, 254, Some(3), true)]
#[case::none_of_ours("192.168.99.0/24", 3, 254, Some(1), false)]
#[case::in_another_table("192.168.2.0/24", 3, 100, Some(1), false)]
fn only_events_that_may_matter_cause_a_pass(
    #[case] destination: &str,
    #[case] protocol: u8,
    #[case] table: u32,
    #[case] interface: Option<u32>,
    #[case] expected: bool,
) {
    let mut kernel = wired();
    sync_to(&mut kernel, &seed());
    let desired = Desired::compute(&seed(), NODE).unwrap();
    let route = Route {
        destination: destination.parse().unwrap(),
        protocol,
        table,
        interface,
        ..kernel.routes[0].clone()
    };
    assert_eq!(
        concerns(
            &Event::Route { route, gone: false },
            &desired,
            &[3, 5].into()
        ),
        expected
    );
}

#[test]
fn a_pods_arp_is_no_concern_of_ours_unless_we_set_its_neighbour() {
    let mut snapshot = seed();
    let event = Event::Neighbour {
        interface: 4,
        address: "192.168.1.12".parse().unwrap(),
    };
    let ask = |snapshot: &Snapshot, event: &Event| {
        concerns(
            event,
            &Desired::compute(snapshot, NODE).unwrap(),
            &[4].into(),
        )
    };
    assert!(!ask(&snapshot, &event));
    snapshot
        .endpoints
        .get_mut(&(NODE.into(), PODS[2].into()))
        .unwrap()
        .mac = Some(Mac([2, 0, 0, 0, 0, 9]));
    assert!(ask(&snapshot, &event));
    let elsewhere = Event::Neighbour {
        interface: 1,
        address: "192.168.1.12".parse().unwrap(),
    };
    assert!(!ask(&snapshot, &elsewhere), "not on a pod's interface");
    for always in [Event::Link, Event::Address, Event::Lost] {
        assert!(ask(&snapshot, &always), "{always:?}");
    }
}

/// The plugin that wires a pod is ahead of the datastore by some seconds, never by more.
#[test]
fn unknown_routes_on_a_new_pod_interface_have_ten_seconds() {
    let mut kernel = wired();
    let desired = Desired::compute(&seed(), NODE).unwrap();
    let mut backend = candidates(Choice::Kernel).remove(0);
    let (mut filter, begin) = (Filter::default(), Instant::now());
    let mut newcomers = Newcomers::new(Duration::from_secs(10));
    let mut at = |kernel: &mut FakeKernel, seconds| {
        let now = begin + Duration::from_secs(seconds);
        let pass = Pass {
            thorough: false,
            now,
            newcomers: &mut newcomers,
        };
        let report = sync(kernel, &mut *backend, &mut filter, &desired, pass).unwrap();
        report
            .look_again
            .map(|again| again.duration_since(begin).as_secs())
    };
    assert_eq!(at(&mut kernel, 0), None, "nothing to be left alone");

    let interface = Some(kernel.add_link("cali00000000000", "veth"));
    let route = Route {
        interface,
        protocol: 3,
        ..kernel.routes[0].clone()
    };
    let plugins = Route {
        destination: "192.168.1.99/32".parse().unwrap(),
        ..route
    };
    kernel.routes.push(plugins.clone());
    assert_eq!(at(&mut kernel, 5), Some(15));
    assert_eq!(at(&mut kernel, 14), Some(15));
    assert!(kernel.routes.contains(&plugins));
    assert_eq!(at(&mut kernel, 15), None);
    assert!(!kernel.routes.contains(&plugins));
}
