//! The short way: a route of ours that somebody deleted is put back without a look at all the
//! others, which takes its time where there are thousands.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::netlink::events::Event;
use crate::platform::{Route, Routes};

/// Puts the deleted routes back if deletions of routes in `placed`, exactly as they are there,
/// are all that `events` tell of. Returns how many were put back; `None` when a whole pass has to
/// look, since something else happened, too, or something stands in a route's place by now.
pub(crate) fn put_back<'a>(
    routes: &mut dyn Routes,
    placed: &BTreeMap<Ipv4Net, Route>,
    events: impl IntoIterator<Item = &'a Event>,
) -> Option<usize> {
    let mut deleted = BTreeMap::new();
    for event in events {
        match event {
            Event::Route { route, gone: true } if placed.get(&route.destination) == Some(route) => {
                deleted.insert(route.destination, route.clone());
            }
            _ => return None,
        }
    }
    let deleted: Vec<Route> = deleted.into_values().collect();
    let refused = routes.add_routes(&deleted);
    refused.is_empty().then_some(deleted.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::fake::FakeKernel;
    use crate::platform::{MAIN_TABLE, RouteKind};

    fn route(destination: &str, interface: u32) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            table: MAIN_TABLE,
            metric: 0,
            tos: 0,
            protocol: 80,
            kind: RouteKind::Unicast,
            link_scope: false,
            gateway: None,
            interface: Some(interface),
            onlink: false,
            mtu: None,
            extras: false,
        }
    }

    fn deletion(route: &Route) -> Event {
        let route = route.clone();
        Event::Route { route, gone: true }
    }

    #[test]
    fn only_exact_deletions_take_the_short_way() {
        let (one, two) = (route("192.168.1.0/24", 1), route("192.168.2.0/24", 1));
        let placed: BTreeMap<_, _> = [&one, &two].map(|r| (r.destination, r.clone())).into();
        let mut kernel = FakeKernel::default();
        let events = [deletion(&one), deletion(&two), deletion(&one)];
        assert_eq!(put_back(&mut kernel, &placed, &events), Some(2));
        assert_eq!(kernel.routes, [one.clone(), two.clone()]);

        let added = Event::Route {
            route: one.clone(),
            gone: false,
        };
        for other in [
            added,
            deletion(&route("192.168.1.0/24", 2)),
            deletion(&route("192.168.3.0/24", 1)),
            Event::Link,
            Event::Lost,
        ] {
            kernel.routes.clear();
            let events = [deletion(&one), other];
            assert_eq!(put_back(&mut kernel, &placed, &events), None);
            assert!(kernel.routes.is_empty(), "{events:?}");
        }
    }

    #[test]
    fn what_took_the_place_meanwhile_is_not_overwritten() {
        let ours = route("192.168.1.0/24", 1);
        let mut theirs = ours.clone();
        theirs.protocol = 4;
        let mut kernel = FakeKernel::default();
        kernel.routes.push(theirs.clone());
        let placed = [(ours.destination, ours.clone())].into();
        assert_eq!(put_back(&mut kernel, &placed, &[deletion(&ours)]), None);
        assert_eq!(kernel.routes, [theirs]);
    }
}
