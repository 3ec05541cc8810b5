use super::*;
use crate::netlink::{
    Link, MacAddress, Neighbour, NeighbourState, Refusal, Route, RouteAnswer, RouteKind,
    RouteProtocol, RouteScope, TableRoute,
};
use crate::trace::diagnose::Case;
use crate::trace::evidence::{Evidence, MachineState};
use crate::trace::hop::Decision;
use crate::trace::{Cause, Moved, NftVerdict, Outcome};

fn link(name: &str, mtu: u32) -> Link {
    Link {
        index: 1,
        name: name.to_owned(),
        kind: None,
        mac: None,
        mtu,
        up: true,
        running: true,
        arp: !name.starts_with("tunl"),
        master: None,
        tunnel: None,
    }
}

/// The devices of all machines of the journey, all well.
fn evidence(journey: &Journey) -> Evidence {
    let mut evidence = Evidence {
        destination: Some(P2),
        size: 84,
        ..Evidence::default()
    };
    for station in &journey.expected.there {
        let machine = evidence.machines.entry(station.point.machine.clone());
        let state: &mut MachineState = machine.or_default();
        let mut device = link(&station.point.device, 1500);
        device.master = (station.point.machine == "fabric").then_some(7);
        state.links.push(device);
        for name in ["forwarding", "rp_filter"] {
            let parameter = format!("conf/{}/{name}", station.point.device);
            let value = if name == "forwarding" { "1" } else { "0" };
            state.parameters.insert(parameter, value.to_owned());
        }
        let on = ("ip_forward".to_owned(), "1".to_owned());
        state.parameters.extend([on]);
    }
    evidence
}

pub(super) fn route(destination: &str, kind: RouteKind) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        kind,
        gateway: None,
        interface: None,
        source: None,
        protocol: RouteProtocol::BOOT,
        scope: RouteScope::Universe,
        tos: 0,
        metric: 0,
        mtu: None,
        onlink: false,
    }
}

fn forward(device: &str, gateway: Ipv4Addr, matched: &str) -> Decision {
    Decision {
        route: RouteAnswer::Forward {
            device: device.to_owned(),
            gateway: Some(gateway),
            matched: Some(Box::new(route(matched, RouteKind::Unicast))),
        },
        neighbour: None,
    }
}

fn refused(refusal: Refusal) -> Decision {
    Decision {
        route: RouteAnswer::Refused(refusal),
        neighbour: None,
    }
}

fn diagnose(journey: &Journey, evidence: &Evidence) -> crate::trace::Diagnosis {
    with_outcome(journey, evidence, &Outcome::Silence)
}

fn with_outcome(
    journey: &Journey,
    evidence: &Evidence,
    outcome: &Outcome,
) -> crate::trace::Diagnosis {
    let finding = journey.finding().expect("something is wrong");
    Case {
        topology: &journey.topology,
        expected: &journey.expected,
        finding: &finding,
        hops: &journey.hops,
        outcome,
        lost: true,
        evidence,
    }
    .diagnose()
}

fn lost_before(place: &str) -> (Journey, Evidence) {
    let mut journey = Journey::healthy();
    journey.lost_before(place);
    let evidence = evidence(&journey);
    (journey, evidence)
}

/// If this fails, the line that a user reads first is not the one that helps.
#[test]
fn the_one_line_names_hop_machine_and_cause() {
    let (journey, mut evidence) = lost_before("n1/tunl0");
    evidence.decision = Some(refused(Refusal::Unreachable));
    let line = diagnose(&journey, &evidence).to_string();
    let cali = &journey.expected.there[1].point;
    assert_eq!(
        line,
        format!(
            "lost between {cali} and n1/tunl0: n1: no route to 192.168.2.5 (look-up: unreachable)"
        )
    );
}

#[test]
fn a_look_up_says_which_route_is_wrong() {
    let gateway = Ipv4Addr::new(10, 12, 0, 1);
    let block = "192.168.2.0/24";
    let cause = |decision: Decision| {
        let (journey, mut evidence) = lost_before("n1/tunl0");
        evidence.decision = Some(decision);
        diagnose(&journey, &evidence).cause
    };
    let missing = cause(forward("eth0", gateway, "0.0.0.0/0"));
    let Cause::RouteMissing { block: found, .. } = missing else {
        panic!("{missing:?}");
    };
    assert_eq!(found.to_string(), block);
    let around = cause(forward("eth0", N2, block));
    assert!(matches!(around, Cause::AroundTunnel { .. }), "{around:?}");
    assert_eq!(
        cause(forward("tunl0", gateway, block)),
        Cause::WrongNextHop {
            expected: N2,
            found: gateway
        }
    );
}

#[test]
fn a_route_that_refuses_is_told_from_none() {
    for kind in [
        RouteKind::Blackhole,
        RouteKind::Unreachable,
        RouteKind::Prohibit,
    ] {
        let (journey, mut evidence) = lost_before("n1/tunl0");
        evidence.decision = Some(refused(Refusal::Unreachable));
        let state = evidence.machines.get_mut("n1").unwrap();
        let routes = [
            route("0.0.0.0/0", RouteKind::Unicast),
            route("192.168.2.0/24", kind),
        ];
        let in_main = |route| TableRoute { table: 254, route };
        state.routes = routes.map(in_main).into();
        let destination = "192.168.2.0/24".parse().unwrap();
        let expected = Cause::RouteRefuses { destination, kind };
        assert_eq!(diagnose(&journey, &evidence).cause, expected);
    }
}

#[test]
fn a_machine_that_does_not_forward_or_distrusts_the_sender_is_named() {
    let (journey, mut evidence) = lost_before("n2/cali");
    evidence.decision = Some(refused(Refusal::Unreachable));
    let set = |evidence: &mut Evidence, name: &str, value: &str| {
        let state = evidence.machines.get_mut("n2").unwrap();
        state.parameters.insert(name.to_owned(), value.to_owned());
    };
    set(&mut evidence, "conf/tunl0/forwarding", "0");
    let off = Cause::ForwardingOff {
        parameter: "conf/tunl0/forwarding".to_owned(),
    };
    assert_eq!(diagnose(&journey, &evidence).cause, off);
    set(&mut evidence, "conf/tunl0/forwarding", "1");
    evidence.decision = Some(refused(Refusal::ReversePath));
    let device = "tunl0".to_owned();
    assert_eq!(
        diagnose(&journey, &evidence).cause,
        Cause::ReversePath { device }
    );
}

#[test]
fn between_tunnel_and_underlay_it_is_the_size_or_the_encapsulation() {
    let (mut journey, mut evidence) = lost_before("n1/eth0");
    assert_eq!(diagnose(&journey, &evidence).cause, Cause::NotEncapsulated);
    let state = evidence.machines.get_mut("n1").unwrap();
    for link in &mut state.links {
        link.mtu = if link.name == "eth0" { 60 } else { 100 };
    }
    assert_eq!(
        diagnose(&journey, &evidence).cause,
        Cause::MtuTooLarge {
            device: "tunl0".to_owned(),
            mtu: 100,
            fits: 40
        }
    );
    journey = Journey::healthy();
    journey.lost_before("n2/tunl0");
    assert_eq!(diagnose(&journey, &evidence).cause, Cause::NotDecapsulated);
}

#[test]
fn in_the_fabric_it_is_the_size_the_link_or_the_filter() {
    let (journey, mut evidence) = lost_before("fabric/n2");
    assert_eq!(diagnose(&journey, &evidence).cause, Cause::Unknown);
    evidence.drops = vec!["NETFILTER_DROP".to_owned()];
    let dropped = Cause::Dropped {
        reason: "NETFILTER_DROP".to_owned(),
    };
    assert_eq!(diagnose(&journey, &evidence).cause, dropped);
    let port = Point::new("fabric", "n2");
    let change = |evidence: &mut Evidence, change: fn(&mut Link)| {
        let fabric = evidence.machines.get_mut("fabric").unwrap();
        let link = fabric.links.iter_mut().find(|link| link.name == "n2");
        change(link.unwrap());
    };
    change(&mut evidence, |link| link.mtu = 60);
    let too_big = diagnose(&journey, &evidence).cause;
    assert!(
        matches!(&too_big, Cause::TooBig { device, mtu: 60, .. } if *device == port),
        "{too_big:?}"
    );
    change(&mut evidence, |link| link.running = false);
    let down = Cause::LinkDown { device: port };
    assert_eq!(diagnose(&journey, &evidence).cause, down);
    let verdict = NftVerdict {
        machine: "fabric".to_owned(),
        table: "bridge guard".to_owned(),
        chain: "forward".to_owned(),
        rule: "drop".to_owned(),
    };
    evidence.verdicts = vec![verdict.clone()];
    let filtered = Cause::Filtered(verdict);
    assert_eq!(diagnose(&journey, &evidence).cause, filtered);
}

#[test]
fn a_next_hop_that_does_not_answer_is_named_with_who_should_have() {
    let (journey, mut evidence) = lost_before("p1/eth0");
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let entry = |state| Neighbour {
        interface: "eth0".to_owned(),
        address: gateway,
        mac: None,
        state,
    };
    let mut decision = forward("eth0", gateway, "0.0.0.0/0");
    decision.neighbour = Some(entry(NeighbourState::Incomplete));
    evidence.decision = Some(decision.clone());
    let cali = journey.expected.there[1].point.clone();
    let expected = |proxy_arp_off| Cause::NeighbourUnanswered {
        address: gateway,
        device: "eth0".to_owned(),
        proxy_arp_off,
    };
    assert_eq!(diagnose(&journey, &evidence).cause, expected(None));
    let node = evidence.machines.get_mut("n1").unwrap();
    let parameter = format!("conf/{}/proxy_arp", cali.device);
    node.parameters.insert(parameter, "0".to_owned());
    assert_eq!(diagnose(&journey, &evidence).cause, expected(Some(cali)));
    // One that is known is not the reason.
    decision.neighbour = Some(Neighbour {
        mac: Some(MacAddress([2; 6])),
        ..entry(NeighbourState::Stale)
    });
    evidence.decision = Some(decision);
    assert_eq!(diagnose(&journey, &evidence).cause, Cause::Unknown);
}

#[test]
fn what_the_sender_was_told_is_told() {
    let (journey, mut evidence) = lost_before("p1/eth0");
    evidence.size = 1600;
    let errno = nix::libc::EMSGSIZE;
    let refused = Outcome::NotSent { errno };
    let cause = with_outcome(&journey, &evidence, &refused).cause;
    assert!(
        matches!(
            cause,
            Cause::TooBig {
                mtu: 1500,
                length: 1600,
                ..
            }
        ),
        "{cause:?}"
    );
    let (journey, evidence) = lost_before("n1/tunl0");
    let reported = Outcome::Reported {
        from: N1,
        message: crate::packet::IcmpMessage::Unreachable { code: 1 },
    };
    let explanation = with_outcome(&journey, &evidence, &reported).explanation();
    assert!(explanation.contains("10.12.0.11 reported"), "{explanation}");
}

/// If this fails, a loss that the kernel has counted is blamed on a machine that is not at either
/// end of it, or not on the one that counted it.
#[test]
fn a_counter_of_either_end_explains_what_nothing_else_does() {
    let (journey, mut evidence) = lost_before("fabric/n1");
    let moved = |machine: &str| Moved {
        machine: machine.to_owned(),
        counter: "eth0.tx_drop".to_owned(),
        by: 2,
    };
    let cause = |evidence: &Evidence| {
        let diagnosis = diagnose(&journey, evidence);
        (diagnosis.machine, diagnosis.cause)
    };
    evidence.counters = vec![moved("n2")];
    assert_eq!(cause(&evidence), ("fabric".to_owned(), Cause::Unknown));
    let counted = |machine: &str| {
        let moved = vec![moved(machine)];
        (machine.to_owned(), Cause::Counted { moved })
    };
    evidence.counters = vec![moved("n1"), moved("n2")];
    assert_eq!(cause(&evidence), counted("n1"));
    evidence.counters = vec![moved("n1"), moved("fabric")];
    assert_eq!(cause(&evidence), counted("fabric"));
    let told = diagnose(&journey, &evidence).to_string();
    assert!(
        told.ends_with("fabric: the kernel counted a loss: eth0.tx_drop +2"),
        "{told}"
    );
    // The kernel's own reason says more.
    evidence.drops = vec!["QDISC_DROP".to_owned()];
    let (_, cause) = cause(&evidence);
    assert!(matches!(cause, Cause::Dropped { .. }), "{cause:?}");
}
