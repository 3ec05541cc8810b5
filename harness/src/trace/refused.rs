//! Why the look-up of a machine refuses a packet: its parameters, a rule, a route, or none.

use std::net::Ipv4Addr;

use super::cause::Cause;
use super::evidence::MachineState;
use crate::netlink::{Refusal, RouteKind, Rule};

/// A packet for which a machine has no way.
pub(super) struct Refused<'a> {
    /// What the look-up said.
    pub(super) refusal: Refusal,
    /// `None` where the machine chooses it itself.
    pub(super) source: Option<Ipv4Addr>,
    pub(super) destination: Ipv4Addr,
    /// The device it came in by; `None` for one that the machine makes itself.
    pub(super) incoming: Option<&'a str>,
}

impl Refused<'_> {
    /// Why, from what the machine has.
    pub(super) fn by(&self, state: &MachineState) -> Cause {
        let Self {
            refusal,
            destination,
            incoming,
            ..
        } = *self;
        if let Some(device) = incoming {
            let own = format!("conf/{device}/forwarding");
            for parameter in ["ip_forward", own.as_str()] {
                if state.is_off(parameter) {
                    return Cause::ForwardingOff {
                        parameter: parameter.to_owned(),
                    };
                }
            }
            if refusal == Refusal::ReversePath {
                return Cause::ReversePath {
                    device: device.to_owned(),
                };
            }
        }
        let rule = self.rule(state);
        if let Some(rule) = rule.filter(|rule| refusal_of(&rule.action) == Some(refusal)) {
            return Cause::RuleRefuses {
                rule: Box::new(rule.clone()),
            };
        }
        match state.route_to(destination) {
            Some(route) if !matches!(route.kind, RouteKind::Unicast) => Cause::RouteRefuses {
                destination: route.destination,
                kind: route.kind,
            },
            // A way there is known, so it is the way back that is not.
            Some(_) if refusal == Refusal::Invalid && incoming.is_some() => Cause::ReversePath {
                device: incoming.unwrap_or_default().to_owned(),
            },
            _ => Cause::NoRoute {
                destination,
                refusal,
            },
        }
    }

    /// The rule that refuses it: the first that is for it, unless a table before that has a route.
    pub(super) fn rule<'a>(&self, state: &'a MachineState) -> Option<&'a Rule> {
        let decides = |rule: &&Rule| match rule.action.as_str() {
            "lookup" => state.routes.iter().any(|entry| {
                entry.table == rule.table && entry.route.destination.contains(&self.destination)
            }),
            _ => true,
        };
        let mut own = state.rules.iter().filter(|rule| self.is_under(rule));
        own.find(decides)
            .filter(|rule| refusal_of(&rule.action).is_some())
    }

    /// Whether a rule is for it, as far as that can be told: what the look-up did not say, such as
    /// a mark, is not there.
    fn is_under(&self, rule: &Rule) -> bool {
        let source = rule.source.is_none_or(|net| {
            let source = self.source.unwrap_or(Ipv4Addr::UNSPECIFIED);
            net.contains(&source)
        });
        let destination = rule
            .destination
            .is_none_or(|net| net.contains(&self.destination));
        let incoming = rule
            .incoming
            .as_deref()
            .is_none_or(|device| device == self.incoming.unwrap_or("lo"));
        let mark = rule.mark.is_none_or(|(mark, mask)| mark & mask == 0);
        let all = source && destination && incoming && mark && rule.outgoing.is_none();
        all != rule.inverted
    }
}

/// What the look-up says where a rule has this action.
fn refusal_of(action: &str) -> Option<Refusal> {
    match action {
        "unreachable" => Some(Refusal::Unreachable),
        "blackhole" => Some(Refusal::Invalid),
        "prohibit" => Some(Refusal::Prohibited),
        _ => None,
    }
}
