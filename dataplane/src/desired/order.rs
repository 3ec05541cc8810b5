//! The desired state does not depend on how the datastore came to be what it is: properties of
//! arbitrary histories, with files that contradict each other and files that are broken for a while.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::datastore::watch::Change;
use crate::datastore::{File, Folder, Store};
use crate::fixtures::cases;

const NODE: &str = "n1";

/// What a file says; of one that is broken nothing can be read.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    Good(String),
    Broken,
    Gone,
}

/// A change of one file.
type Write = (File, Content);

fn any_file() -> impl Strategy<Value = (File, String)> {
    let pool = |i: u8, mode: &str| {
        let length = 16 + i;
        (
            File::Pool(format!("p{i}")),
            format!(
                r#"{{"cidr":"192.168.0.0/{length}","block_size":28,"encapsulation":"{mode}"}}"#
            ),
        )
    };
    let node = |(i, subnet, block, tunnel): (u8, u8, u8, Option<u8>)| {
        // n4 has the address of n1, when they are in one subnet.
        let address = format!("10.{subnet}.0.{}/16", i % 3);
        let tunnel = tunnel.map_or(String::new(), |host| {
            format!(r#""tunnel_address":"192.168.{block}.{host}","#)
        });
        (
            File::Node(format!("n{i}")),
            format!(r#"{{"address":"{address}",{tunnel}"blocks":["192.168.{block}.0/24"]}}"#),
        )
    };
    let endpoint = |on: u8, id: u8, net: u8, host: u8| {
        (
            File::Endpoint(format!("n{on}"), format!("e{id}")),
            format!(
                r#"{{"pod":"p","namespace":"n","interface":"cali{id}","addresses":["192.168.{net}.{host}"]}}"#
            ),
        )
    };
    let config = |net: u8, pattern: &str| {
        let text = format!(
            r#"{{"external_nodes":["10.9.{net}.0/24"],"mtu_interface_pattern":"{pattern}"}}"#
        );
        (File::Config, text)
    };
    prop_oneof![
        (
            0..3u8,
            prop::sample::select(&["always", "cross-subnet", "never"][..])
        )
            .prop_map(move |(i, mode)| pool(i, mode)),
        (1..5u8, 1..3u8, 0..4u8, prop::option::of(0..3u8)).prop_map(node),
        (1..5u8, 0..6u8, 0..4u8, 1..4u8)
            .prop_map(move |(on, id, net, host)| endpoint(on, id, net, host)),
        (0..3u8, prop::sample::select(&["eth.*", "ens.*"][..]))
            .prop_map(move |(net, pattern)| config(net, pattern)),
    ]
}

/// What happens to the datastore, one file at a time. Every eighth file is removed again, every
/// eighth is written badly.
fn histories() -> impl Strategy<Value = Vec<Write>> {
    let write = (any_file(), 0..8u8).prop_map(|((file, text), luck)| match luck {
        0 => (file, Content::Gone),
        1 => (file, Content::Broken),
        _ => (file, Content::Good(text)),
    });
    prop::collection::vec(write, 0..30)
}

/// What the files are in the end; those that were broken last are mended, as they were before.
fn outcome(history: &[Write]) -> BTreeMap<File, Content> {
    let usable = history
        .iter()
        .filter(|(_, content)| *content != Content::Broken);
    let mut outcome: BTreeMap<File, Content> = usable.cloned().collect();
    for (file, _) in history {
        outcome.entry(file.clone()).or_insert(Content::Gone);
    }
    outcome
}

fn write(root: &Path, file: &File, content: &Content) {
    let path = root.join(file.path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    match content {
        Content::Good(text) => std::fs::write(&path, text).unwrap(),
        Content::Broken => std::fs::write(&path, "{").unwrap(),
        Content::Gone => drop(std::fs::remove_file(&path)),
    }
}

/// An agent that hears of every change at once, each by its own event.
fn step_by_step(history: &[Write]) -> Store {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::new(directory.path()).unwrap();
    let mended = outcome(history);
    for (file, content) in history.iter().map(|(f, c)| (f, c)).chain(&mended) {
        write(directory.path(), file, content);
        Change::File(file.clone()).apply(&mut store);
    }
    store
}

/// One that hears of them late, when all is written: in this order, and of some of them twice or
/// only by their folder.
fn late(history: &[Write], events: &[Change]) -> Store {
    let directory = tempfile::tempdir().unwrap();
    for (file, content) in &outcome(history) {
        write(directory.path(), file, content);
    }
    let mut store = Store::new(directory.path()).unwrap();
    for event in events {
        event.apply(&mut store);
    }
    store
}

/// A history, and events about all its files in some order.
fn with_events() -> impl Strategy<Value = (Vec<Write>, Vec<Change>)> {
    let more = prop::collection::vec(
        prop_oneof![
            Just(Change::Everything),
            Just(Change::Folder(Folder::Root)),
            Just(Change::Folder(Folder::Pools)),
            Just(Change::Folder(Folder::Nodes)),
            Just(Change::Folder(Folder::EndpointsOf(NODE.to_owned()))),
        ],
        0..3,
    );
    (histories(), more).prop_flat_map(|(history, more)| {
        let files = history.iter().map(|(file, _)| Change::File(file.clone()));
        let events: Vec<Change> = files.chain(more).collect();
        (Just(history), Just(events).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(cases(128))]

    /// A node that was down while the cluster changed ends up like one that saw every event, and
    /// so does one that starts only then.
    #[test]
    fn any_order_of_events_ends_in_the_same_state((history, events) in with_events()) {
        let (one, other) = (step_by_step(&history), late(&history, &events));
        let fresh = late(&history, &[Change::Everything]);
        for store in [&one, &other] {
            prop_assert_eq!(store.snapshot(), fresh.snapshot());
            prop_assert_eq!(store.complaints(), BTreeSet::new());
            let desired = Desired::compute(store.snapshot(), NODE);
            prop_assert_eq!(desired, Desired::compute(fresh.snapshot(), NODE));
        }
    }

    /// A route that leads back to the node itself would be a loop.
    #[test]
    fn no_route_leads_to_the_node_itself(history in histories()) {
        let store = step_by_step(&history);
        let Ok(desired) = Desired::compute(store.snapshot(), NODE) else { return Ok(()) };
        for target in desired.routes.values() {
            if let Target::Tunnel(gateway) | Target::Underlay(gateway) = target {
                prop_assert_ne!(*gateway, desired.address.addr());
            }
        }
    }

    /// Wherever two nodes claim one address or block, all others send to the same of them,
    /// whichever subnet they are in.
    #[test]
    fn third_nodes_agree_on_who_has_what(history in histories()) {
        let store = step_by_step(&history);
        let mut snapshot = store.snapshot().clone();
        let observers = [("x1", "10.1.0.77/16"), ("x2", "10.2.0.77/16"), ("a", "10.3.0.77/16")];
        for (name, address) in observers {
            let node = crate::fixtures::node(address, None, &[]);
            snapshot.nodes.insert(name.to_owned(), node);
        }
        let mut winners = BTreeMap::new();
        for (name, _) in observers {
            let desired = Desired::compute(&snapshot, name).unwrap();
            for (destination, target) in desired.routes {
                let (Target::Tunnel(gateway) | Target::Underlay(gateway)) = target else {
                    continue;
                };
                let winner = *winners.entry(destination).or_insert(gateway);
                prop_assert_eq!(winner, gateway, "{} to {}", name, destination);
            }
        }
    }
}
