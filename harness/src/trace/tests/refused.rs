//! Which rule, if any, is the one that refuses a packet.

use std::net::Ipv4Addr;

use super::diagnosis::route;
use super::{P1, P2};
use crate::netlink::{Refusal, RouteKind, Rule, TableRoute};
use crate::trace::Cause;
use crate::trace::evidence::MachineState;
use crate::trace::refused::Refused;

fn rule(priority: u32, action: &str, table: u32) -> Rule {
    Rule {
        priority,
        source: None,
        destination: None,
        incoming: None,
        outgoing: None,
        mark: None,
        inverted: false,
        action: action.to_owned(),
        table,
    }
}

/// A machine whose table 100 has a route to `destination`.
fn machine(destination: &str, rules: Vec<Rule>) -> MachineState {
    let route = route(destination, RouteKind::Unicast);
    MachineState {
        rules,
        routes: vec![TableRoute { table: 100, route }],
        ..MachineState::default()
    }
}

fn blamed(state: &MachineState, refusal: Refusal) -> Option<u32> {
    let packet = Refused {
        refusal,
        source: Some(P1),
        destination: P2,
        incoming: Some("cali1"),
    };
    match packet.by(state) {
        Cause::RuleRefuses { rule } => Some(rule.priority),
        _ => None,
    }
}

#[test]
fn the_first_rule_that_is_for_the_packet_decides_unless_a_table_before_it_does() {
    let rules = || vec![rule(1, "lookup", 100), rule(2, "prohibit", 0)];
    let elsewhere = machine("10.9.0.0/16", rules());
    assert_eq!(blamed(&elsewhere, Refusal::Prohibited), Some(2));
    let taken = machine("192.168.2.0/24", rules());
    assert_eq!(blamed(&taken, Refusal::Prohibited), None);
    // It would have said something else.
    assert_eq!(blamed(&elsewhere, Refusal::Unreachable), None);
}

#[test]
fn a_rule_for_other_packets_is_not_blamed() {
    let with = |change: &dyn Fn(&mut Rule)| {
        let mut only = rule(7, "unreachable", 0);
        change(&mut only);
        let state = machine("10.9.0.0/16", vec![only]);
        blamed(&state, Refusal::Unreachable)
    };
    let net = |address: Ipv4Addr| Some(ipnet::Ipv4Net::from(address));
    assert_eq!(with(&|_| {}), Some(7));
    assert_eq!(with(&|rule| rule.source = net(P1)), Some(7));
    assert_eq!(with(&|rule| rule.source = net(P2)), None);
    assert_eq!(with(&|rule| rule.destination = net(P1)), None);
    assert_eq!(with(&|rule| rule.incoming = Some("cali1".into())), Some(7));
    assert_eq!(with(&|rule| rule.incoming = Some("cali2".into())), None);
    assert_eq!(with(&|rule| rule.outgoing = Some("eth0".into())), None);
    assert_eq!(with(&|rule| rule.mark = Some((8, 0xff))), None);
    assert_eq!(with(&|rule| rule.inverted = true), None);
}
