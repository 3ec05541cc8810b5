use super::*;
use crate::apply::fake::FakeKernel;
use crate::platform::Routes as _;
use proptest::prelude::*;
use rstest::rstest;
use std::sync::LazyLock;
use std::time::Duration;

const UNDERLAY: u32 = 1;
const POD: u32 = 2;
const NEW_POD: u32 = 3;
const TUNNEL_INDEX: u32 = 4;

/// When the new pod's interface ceases to be new.
static UNTIL: LazyLock<Instant> = LazyLock::new(|| Instant::now() + Duration::from_secs(10));

fn owned() -> Owned {
    Owned {
        pods: [POD, NEW_POD].into(),
        new: [(NEW_POD, *UNTIL)].into(),
        tunnel: Some(TUNNEL_INDEX),
    }
}

fn route(destination: &str, interface: u32, protocol: u8) -> Route {
    Route {
        interface: Some(interface),
        protocol,
        ..plain(destination.parse().unwrap())
    }
}

/// 192.168.2.0/24 by way of the tunnel is wanted; 192.168.3.0/24 waits for its interface.
fn wanted() -> Wanted {
    let ours = route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL);
    Wanted {
        routes: [(ours.destination, ours)].into(),
        waiting: [("192.168.3.0/24".parse().unwrap(), Awaited::Node)].into(),
    }
}

#[derive(Debug, PartialEq)]
enum Fate {
    Replaced,
    Removed,
    Respected,
    Untouched,
}

#[rstest]
#[case::stale_of_a_former_life("192.168.9.0/24", UNDERLAY, PROTOCOL, Fate::Removed)]
#[case::strangers("192.168.9.0/24", UNDERLAY, 3, Fate::Untouched)]
#[case::kernels_own("192.168.9.0/24", POD, KERNEL, Fate::Untouched)]
#[case::strangers_on_a_pods_interface("192.168.9.0/24", POD, 3, Fate::Removed)]
#[case::administrators_on_a_pods_interface("192.168.9.0/24", POD, STATIC, Fate::Removed)]
#[case::plugin_ahead_of_the_datastore("192.168.9.0/24", NEW_POD, 3, Fate::Untouched)]
#[case::administrator_ahead_of_it("192.168.9.0/24", NEW_POD, STATIC, Fate::Untouched)]
#[case::ours_on_a_new_interface("192.168.9.0/24", NEW_POD, PROTOCOL, Fate::Removed)]
#[case::strangers_in_our_place_on_a_new_one("192.168.2.0/24", NEW_POD, 3, Fate::Replaced)]
#[case::birds_to_nowhere("192.168.9.0/24", TUNNEL_INDEX, BIRD, Fate::Removed)]
#[case::birds_elsewhere("192.168.9.0/24", UNDERLAY, BIRD, Fate::Untouched)]
#[case::administrators_on_the_tunnel("192.168.9.0/24", TUNNEL_INDEX, STATIC, Fate::Untouched)]
#[case::birds_in_our_place("192.168.2.0/24", TUNNEL_INDEX, BIRD, Fate::Replaced)]
#[case::birds_in_our_place_elsewhere("192.168.2.0/24", UNDERLAY, BIRD, Fate::Replaced)]
#[case::overwritten_by_hand("192.168.2.0/24", UNDERLAY, 3, Fate::Replaced)]
#[case::ours_but_wrong("192.168.2.0/24", UNDERLAY, PROTOCOL, Fate::Replaced)]
#[case::administrators_in_our_place("192.168.2.0/24", TUNNEL_INDEX, STATIC, Fate::Respected)]
#[case::waits_for_its_interface("192.168.3.0/24", UNDERLAY, PROTOCOL, Fate::Untouched)]
fn ownership_decides_the_fate_of_a_route(
    #[case] destination: &str,
    #[case] interface: u32,
    #[case] protocol: u8,
    #[case] expected: Fate,
) {
    let actual = route(destination, interface, protocol);
    let plan = plan(&wanted(), std::slice::from_ref(&actual), &owned());
    let fate = if plan.conflicts.contains(&actual) {
        Fate::Respected
    } else if plan.remove.contains(&actual) {
        Fate::Removed
    } else if plan
        .replace
        .iter()
        .any(|new| new.destination == actual.destination)
    {
        Fate::Replaced
    } else {
        Fate::Untouched
    };
    assert_eq!(fate, expected);
    assert!(
        !plan.remove.contains(&actual) || fate == Fate::Removed,
        "replaced, not removed too"
    );
}

#[rstest]
#[case::other_table(Route { table: 100, ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
#[case::other_metric(Route { metric: 7, ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
#[case::other_tos(Route { tos: 8, ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
fn what_looks_like_ours_beside_the_right_place_is_stale(#[case] actual: Route) {
    let plan = plan(&wanted(), std::slice::from_ref(&actual), &owned());
    assert_eq!(plan.remove, [actual]);
    assert_eq!(plan.replace.len(), 1);
}

#[rstest]
#[case::mtu(Route { mtu: Some(1400), ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
#[case::gateway(Route { gateway: Some([10, 0, 0, 1].into()), ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
#[case::onlink(Route { onlink: true, ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
#[case::scope(Route { link_scope: true, ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
#[case::kind(Route { kind: RouteKind::Blackhole, ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
#[case::extras(Route { extras: true, ..route("192.168.2.0/24", TUNNEL_INDEX, PROTOCOL) })]
fn every_difference_is_seen(#[case] actual: Route) {
    let plan = plan(&wanted(), &[actual], &owned());
    assert_eq!((plan.replace.len(), plan.remove.len()), (1, 0));
}

fn any_route() -> impl Strategy<Value = Route> {
    let destination = (0..6u8).prop_map(|i| format!("192.168.{i}.0/24"));
    let protocol = prop::sample::select(vec![PROTOCOL, KERNEL, 3, STATIC, BIRD]);
    let table = prop::sample::select(vec![MAIN_TABLE, MAIN_TABLE, 100]);
    (destination, 1..5u32, protocol, table, 0..2u32).prop_map(
        |(destination, interface, protocol, table, metric)| Route {
            table,
            metric,
            ..route(&destination, interface, protocol)
        },
    )
}

proptest! {
    /// What is applied is there, applying it again changes nothing, and nothing that is
    /// somebody else's was touched on the way.
    #[test]
    fn applying_a_plan_is_enough_and_touches_only_ours(
        wants in proptest::collection::vec(any_route(), 0..6),
        routes in proptest::collection::vec(any_route(), 0..12),
    ) {
        let wanted = Wanted {
            routes: wants
                .into_iter()
                .map(|want| (want.destination, Route { protocol: PROTOCOL, table: MAIN_TABLE, metric: 0, ..want }))
                .collect(),
            waiting: BTreeMap::new(),
        };
        let mut kernel = FakeKernel::default();
        kernel.replace_routes(&routes);
        let before = kernel.routes.clone();

        let first = plan(&wanted, &before, &owned());
        kernel.replace_routes(&first.replace);
        kernel.remove_routes(&first.remove);

        let second = plan(&wanted, &kernel.routes, &owned());
        prop_assert_eq!(&second.replace, &[]);
        prop_assert_eq!(&second.remove, &[]);
        prop_assert_eq!(&second.conflicts, &first.conflicts);
        for route in wanted.routes.values() {
            let conflict = first.conflicts.iter().any(|c| c.destination == route.destination);
            prop_assert!(conflict || kernel.routes.contains(route));
        }
        for route in &before {
            let place = route.table == MAIN_TABLE && route.metric == 0 && wanted.routes.contains_key(&route.destination);
            if !owned().is_ours(route) && !place {
                prop_assert!(kernel.routes.contains(route), "{route} is gone");
            }
        }
    }
}
