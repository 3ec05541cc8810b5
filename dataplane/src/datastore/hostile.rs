//! Nothing that a file can contain makes the agent panic, forget what it knew, or hand the kernel a
//! ruleset that cannot be written. `PROPTEST_CASES=100000 cargo test hostile` looks for longer.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::{File, Snapshot, Store, check};
use crate::desired::Desired;
use crate::filter::Ruleset;

const NODE: &str = "k8s-worker-1";
/// One good file of each kind, with everything that it may say.
const GOOD: [(&str, &str); 4] = [
    (
        "pools/default.json",
        r#"{"cidr":"192.168.0.0/16","block_size":24,"encapsulation":"cross-subnet","nat_outgoing":true,"tunnel_mtu":1440}"#,
    ),
    (
        "nodes/k8s-worker-1.json",
        r#"{"address":"10.12.22.2/16","tunnel_address":"192.168.1.0","blocks":["192.168.1.0/24","192.168.9.9/32"]}"#,
    ),
    (
        "endpoints/k8s-worker-1/default.web.json",
        r#"{"pod":"web","namespace":"default","interface":"cali0123456789a","addresses":["192.168.1.7"],"mac":"02:50:c0:a8:01:07"}"#,
    ),
    (
        "config.json",
        r#"{"external_nodes":["10.99.0.0/24"],"mtu_interface_pattern":"^eth"}"#,
    ),
];

fn file(index: usize) -> File {
    match index {
        0 => File::Pool("default".into()),
        1 => File::Node(NODE.into()),
        2 => File::Endpoint(NODE.into(), "default.web".into()),
        _ => File::Config,
    }
}

/// A datastore of the good files, and an agent's view of it.
fn good() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    for (path, content) in GOOD {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let store = Store::open(directory.path(), NODE).expect("they are good");
    (directory, store)
}

/// The agent reads `content` in the place of a good file.
fn survives(index: usize, content: &[u8]) -> Result<(), TestCaseError> {
    let (directory, mut store) = good();
    let before = store.snapshot().clone();
    fs::write(directory.path().join(GOOD[index].0), content).unwrap();
    let changed = store.reload(&file(index));
    let complaints = store.complaints();
    prop_assert_eq!(changed, *store.snapshot() != before);
    if !complaints.is_empty() {
        let named = complaints
            .iter()
            .all(|line| line.starts_with(GOOD[index].0));
        prop_assert!(named, "{:?}", complaints);
        prop_assert!(!changed, "a broken file was taken");
    }
    works(store.snapshot())?;
    // The way back is open whatever came between.
    fs::write(directory.path().join(GOOD[index].0), GOOD[index].1).unwrap();
    store.reload(&file(index));
    prop_assert_eq!(store.complaints(), BTreeSet::new());
    prop_assert_eq!(store.snapshot(), &before);
    Ok(())
}

/// Whatever was taken for good can be worked with.
fn works(snapshot: &Snapshot) -> Result<(), TestCaseError> {
    for fault in check(snapshot) {
        prop_assert!(!fault.to_string().is_empty());
    }
    let desired = Desired::compute(snapshot, NODE).expect("the node is known");
    prop_assert!(desired.tunnel.mtu.on(1500) >= 48);
    let ruleset = Ruleset::new(&desired);
    let ruleset = ruleset.script();
    // Names of interfaces are quoted, and may hold anything but a quote.
    prop_assert_eq!(ruleset.matches('"').count() % 2, 0, "{}", ruleset);
    let outside: String = ruleset.split('"').step_by(2).collect();
    let open = outside.matches('{').count();
    prop_assert_eq!(open, outside.matches('}').count(), "{}", ruleset);
    Ok(())
}

/// A good file in which some bytes are others, are missing, or come twice.
fn mutated() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let splice = (any::<prop::sample::Index>(), 0..12usize, splinter());
    (0..GOOD.len(), prop::collection::vec(splice, 1..4)).prop_map(|(index, splices)| {
        let mut bytes = GOOD[index].1.as_bytes().to_vec();
        for (at, length, new) in splices {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, new);
        }
        (index, bytes)
    })
}

/// What makes parsers stumble more often than any byte does.
fn splinter() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            "0",
            "-1",
            "33",
            "/0",
            "/33",
            "256",
            "4294967296",
            "1e9",
            "null",
            "[]",
            "{}",
            "\"",
            "\\u0000",
            "\\n",
            "::1",
            ".",
            "..",
            "*",
            "}",
            "{",
            ",",
            "0.0.0.0/0",
            "255.255.255.255",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn any_bytes_in_the_place_of_a_file(
        index in 0..GOOD.len(),
        content in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        survives(index, &content)?;
    }

    #[test]
    fn a_good_file_with_a_few_bytes_changed((index, content) in mutated()) {
        survives(index, &content)?;
    }

    #[test]
    fn a_file_that_is_cut(index in 0..GOOD.len(), at in any::<prop::sample::Index>()) {
        let whole = GOOD[index].1.as_bytes();
        survives(index, &whole[..at.index(whole.len())])?;
    }
}
