//! What is wrong, in one line, and what a reader must see of the way.

use std::collections::BTreeSet;

use super::model::{HopState, PairState};
use crate::trace::{Stretch, Trace};

/// `a → b (192.168.2.2)`.
pub(super) fn title(pair: &PairState) -> String {
    let address = pair.address.to_string();
    match pair.to == address {
        true => format!("{} → {address}", pair.from),
        false => format!("{} → {} ({address})", pair.from, pair.to),
    }
}

/// What a trace says of a pair.
pub(super) fn of(trace: &Trace, asked: usize) -> String {
    if trace.is_delivered() {
        return format!(
            "asked {asked} times more, it was delivered and answered as it should be every time"
        );
    }
    match (trace.diagnosis(), trace.stretch()) {
        (Some(diagnosis), _) => diagnosis.to_string(),
        (None, Some(stretch)) => format!("{} {stretch}", trace.verdict()),
        (None, None) => trace.verdict().to_string(),
    }
}

/// The devices of the way, from the one to the other, that a reader must see: all but tunnels
/// that the packet has passed by, and those beside the way at which it was seen all the same.
pub(super) fn lanes(way: &[String], hops: &[HopState], stretch: Option<&Stretch>) -> Vec<String> {
    let mut seen: BTreeSet<&str> = hops.iter().map(|hop| hop.tap.as_str()).collect();
    let places = stretch
        .into_iter()
        .flat_map(|stretch| [&stretch.after, &stretch.before]);
    let places: Vec<String> = places.flatten().map(ToString::to_string).collect();
    seen.extend(places.iter().map(String::as_str));
    let last_seen = way.iter().rposition(|tap| seen.contains(tap.as_str()));
    let passed_by =
        |place: usize, tap: &str| !seen.contains(tap) && last_seen.is_some_and(|last| place < last);
    let mut lanes: Vec<String> = way
        .iter()
        .enumerate()
        .filter(|(place, tap)| !passed_by(*place, tap))
        .map(|(_, tap)| tap.clone())
        .collect();
    // Where it should never have been goes beside the place where it was seen before that.
    let mut before: Option<&str> = None;
    for hop in hops {
        if !lanes.contains(&hop.tap) {
            let place = before.and_then(|tap| lanes.iter().position(|lane| lane == tap));
            lanes.insert(place.map_or(0, |place| place + 1), hop.tap.clone());
        }
        before = Some(&hop.tap);
    }
    for place in places {
        if !lanes.contains(&place) {
            lanes.push(place);
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Leg, Point};

    fn hop(tap: &str) -> HopState {
        HopState {
            at_ns: 0,
            tap: tap.to_owned(),
            direction: "in",
            leg: Leg::There,
            is_error: false,
            addressed: true,
            headers: Vec::new(),
            length: 84,
            text: String::new(),
            decision: None,
        }
    }

    fn shown(seen: &[&str], missing: Option<&str>) -> Vec<String> {
        let way = [
            "a/eth0", "n1/tunl0", "n1/eth0", "n2/eth0", "n2/tunl0", "b/eth0",
        ];
        let hops: Vec<HopState> = seen.iter().map(|tap| hop(tap)).collect();
        let stretch = missing.map(|missing| {
            let (machine, device) = missing.split_once('/').unwrap();
            Stretch {
                after: None,
                before: Some(Point::new(machine, device)),
            }
        });
        lanes(&way.map(str::to_owned), &hops, stretch.as_ref())
    }

    #[test]
    fn a_tunnel_that_was_passed_by_is_not_shown_and_what_was_not_reached_is() {
        assert_eq!(
            shown(&["a/eth0", "n1/eth0", "n2/eth0"], None),
            ["a/eth0", "n1/eth0", "n2/eth0", "n2/tunl0", "b/eth0"]
        );
        // It should have been there: that it was not is what the reader must see.
        assert_eq!(
            shown(&["a/eth0", "n1/eth0", "n2/eth0"], Some("n1/tunl0")),
            [
                "a/eth0", "n1/tunl0", "n1/eth0", "n2/eth0", "n2/tunl0", "b/eth0"
            ]
        );
    }

    #[test]
    fn a_place_beside_the_way_is_shown_where_the_packet_turned_off() {
        assert_eq!(
            shown(&["a/eth0", "n1/tunl0", "n3/eth0"], None)[..4],
            ["a/eth0", "n1/tunl0", "n3/eth0", "n1/eth0"]
        );
    }
}
