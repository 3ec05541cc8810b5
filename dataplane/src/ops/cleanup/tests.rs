use super::*;
use crate::apply::fake::FakeKernel;
use crate::mac::Mac;
use crate::platform::{Address, Addresses, Links, Neighbour, Neighbours, NewLink, Routes};

fn route(destination: &str, protocol: u8, interface: u32) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        table: 254,
        metric: 0,
        tos: 0,
        protocol,
        kind: crate::platform::RouteKind::Unicast,
        link_scope: false,
        gateway: None,
        interface: Some(interface),
        onlink: false,
        mtu: None,
        extras: false,
    }
}

/// What was there before the agent, and the same with what the agent makes of it.
fn before_and_after(tunnel: &NewLink) -> (FakeKernel, FakeKernel) {
    let mut before = FakeKernel::with_underlay();
    let pod = before.add_link("cali1", "veth");
    let other = before.add_link("docker0", "bridge");
    before.replace_routes(&[
        route("0.0.0.0/0", 3, 1),
        route("172.16.0.0/12", 4, other),
        route("192.168.1.77/32", 4, pod),
    ]);
    before.replace_neighbours(&[Neighbour {
        interface: other,
        address: [172, 17, 0, 2].into(),
        mac: Mac([2; 6]),
    }]);
    let mut after = before.clone();
    after.create(tunnel).unwrap();
    let index = after.link(TUNNEL).index;
    after.link_mut(TUNNEL).up = true;
    after
        .add_address(&Address {
            interface: index,
            address: "192.168.1.0/32".parse().unwrap(),
        })
        .unwrap();
    let elsewhere = Route {
        table: 100,
        ..route("10.0.0.0/8", PROTOCOL, other)
    };
    after.replace_routes(&[
        route("192.168.2.0/24", PROTOCOL, index),
        route("192.168.1.2/32", PROTOCOL, pod),
        elsewhere,
    ]);
    after.replace_neighbours(&[Neighbour {
        interface: pod,
        address: [192, 168, 1, 2].into(),
        mac: Mac([4; 6]),
    }]);
    (before, after)
}

fn veth() -> NewLink {
    NewLink::Veth {
        name: TUNNEL.to_owned(),
        peer: "tunl0-x".to_owned(),
        mtu: 1440,
    }
}

fn ipip() -> NewLink {
    NewLink::Ipip {
        name: TUNNEL.to_owned(),
    }
}

fn swept(kernel: &mut FakeKernel) -> Outcome {
    let mut outcome = Outcome::default();
    sweep(kernel, &mut outcome).unwrap();
    assert_eq!(outcome.errors, [""; 0]);
    outcome
}

#[rstest::rstest]
#[case::pair(veth())]
#[case::ipip(ipip())]
fn what_was_there_before_the_agent_is_there_after_it(#[case] tunnel: NewLink) {
    let (before, mut kernel) = before_and_after(&tunnel);
    let outcome = swept(&mut kernel);
    assert_eq!(kernel.links, before.links);
    assert_eq!(kernel.routes, before.routes);
    assert_eq!(kernel.neighbours, before.neighbours);
    assert_eq!(kernel.addresses, before.addresses);
    // Three routes, a neighbour, the tunnel.
    assert!(outcome.removed.len() >= 5, "{outcome:?}");
    assert!(
        outcome
            .removed
            .contains(&"route 10.0.0.0/8 dev docker0 proto 80 table 100".to_owned())
    );

    let again = swept(&mut kernel);
    assert!(
        again.removed.is_empty() && again.kept.is_empty(),
        "{again:?}"
    );
}

#[test]
fn a_tunnel_stays_while_an_administrators_route_leads_into_it() {
    let (_, mut kernel) = before_and_after(&veth());
    let tunnel = kernel.link(TUNNEL).index;
    kernel.replace_routes(&[route("203.0.113.0/24", 4, tunnel)]);
    let outcome = swept(&mut kernel);
    assert_eq!(kernel.link(TUNNEL).index, tunnel);
    assert_eq!(
        outcome.kept,
        ["link tunl0: somebody else's route 203.0.113.0/24 dev tunl0 proto 4"]
    );
    assert!(
        kernel
            .routes
            .iter()
            .any(|route| route.protocol == 4 && route.interface == Some(tunnel))
    );
    assert!(!kernel.routes.iter().any(|route| route.protocol == PROTOCOL));
}

#[test]
fn a_tunl0_that_the_agent_cannot_have_made_stays() {
    let mut kernel = FakeKernel::with_underlay();
    kernel.add_link(TUNNEL, "tun");
    let links = kernel.links.clone();
    assert!(swept(&mut kernel).removed.is_empty());
    assert_eq!(kernel.links, links);
}

#[test]
fn a_trial_names_the_same_and_changes_nothing() {
    let (_, mut kernel) = before_and_after(&veth());
    let unchanged = kernel.clone();
    let mut replica = Replica::of(&mut kernel, "/nowhere").unwrap();
    let mut trial = Outcome::default();
    sweep(&mut replica, &mut trial).unwrap();
    assert_eq!(
        (&kernel.links, &kernel.routes),
        (&unchanged.links, &unchanged.routes)
    );
    assert_eq!(trial.removed, swept(&mut kernel).removed);
}
