use super::*;
use crate::apply::fake::FakeKernel;
use crate::datastore::Snapshot;
use crate::desired::Desired;
use crate::fixtures::{pool, seed};

pub(super) fn ruleset(snapshot: &Snapshot) -> Ruleset {
    Ruleset::new(&Desired::compute(snapshot, "k8s-worker-1").unwrap())
}

/// The seed's cluster with everything that the ruleset has sets for.
pub(super) fn full() -> Snapshot {
    let mut snapshot = seed();
    let external = ["10.99.0.0/24", "10.99.0.7/32", "10.12.99.1/32"];
    snapshot.config.external_nodes = external.map(|net| net.parse().unwrap()).into();
    let nat = crate::datastore::Pool {
        nat_outgoing: true,
        ..pool("172.16.0.0/16", crate::datastore::Mode::Never)
    };
    snapshot.pools.insert("nat".into(), nat);
    snapshot
}

#[test]
fn the_whole_ruleset_follows_from_the_desired_state() {
    let ruleset = ruleset(&full());
    let expected = include_str!("tests/worker-1.nft");
    assert_eq!(ruleset.script(), expected, "\n{}", ruleset.script());
}

#[test]
fn what_has_no_elements_is_an_empty_set() {
    let ruleset = ruleset(&seed());
    let script = ruleset.script();
    let line = "set external_nodes { type ipv4_addr; flags interval; }";
    assert!(script.contains(line), "{script}");
    assert!(!script.contains("{  }"), "{script}");
}

/// A kernel, and how often it was written to and read since.
fn apply(filter: &mut Filter, kernel: &mut FakeKernel, wanted: &Ruleset) -> (bool, Vec<String>) {
    kernel.log.clear();
    let written = filter.apply(kernel, wanted).unwrap();
    (written, kernel.log.clone())
}

#[test]
fn it_is_written_once_and_again_only_when_it_differs() {
    let (mut filter, mut kernel) = (Filter::default(), FakeKernel::default());
    let one = ruleset(&seed());
    assert_eq!(
        apply(&mut filter, &mut kernel, &one),
        (true, vec!["load ruleset".into()])
    );
    assert_eq!(apply(&mut filter, &mut kernel, &one), (false, vec![]));
    let other = ruleset(&full());
    assert!(apply(&mut filter, &mut kernel, &other).0);
    assert_eq!(kernel.ruleset.as_deref(), Some(other.script()));
}

#[test]
fn what_somebody_else_does_to_it_is_undone_and_what_he_does_elsewhere_is_left() {
    let (mut filter, mut kernel) = (Filter::default(), FakeKernel::default());
    let wanted = ruleset(&seed());
    apply(&mut filter, &mut kernel, &wanted);
    // The first stranger's transaction: what the table looks like is not known yet.
    kernel.generation += 1;
    assert!(apply(&mut filter, &mut kernel, &wanted).0);
    // The next one elsewhere costs a look.
    kernel.generation += 1;
    assert_eq!(
        apply(&mut filter, &mut kernel, &wanted),
        (false, vec!["list ruleset".into()])
    );
    assert_eq!(apply(&mut filter, &mut kernel, &wanted), (false, vec![]));
    for damage in [None, Some("table ip podlab {}".to_owned())] {
        kernel.ruleset = damage;
        kernel.generation += 1;
        assert!(apply(&mut filter, &mut kernel, &wanted).0);
        assert_eq!(kernel.ruleset.as_deref(), Some(wanted.script()));
        assert_eq!(apply(&mut filter, &mut kernel, &wanted), (false, vec![]));
    }
}

/// nftables of which somebody else makes use between any two of our requests.
struct Crowded {
    generation: u32,
    strangers: usize,
}

impl Nftables for Crowded {
    fn generation(&mut self) -> Result<u32, KernelError> {
        Ok(self.generation)
    }

    fn load(&mut self, _script: &str) -> Result<(), KernelError> {
        let strangers = self.strangers.min(1);
        self.strangers -= strangers;
        self.generation += 1 + strangers as u32;
        Ok(())
    }

    fn list(&mut self, _table: &str) -> Result<Option<String>, KernelError> {
        Ok(None)
    }
}

#[test]
fn a_transaction_in_between_is_not_taken_for_our_own() {
    let mut crowded = Crowded {
        generation: 1,
        strangers: 2,
    };
    let mut filter = Filter::default();
    assert!(filter.apply(&mut crowded, &ruleset(&seed())).unwrap());
    assert_eq!(crowded.generation, 1 + 3 + 2, "until it was alone");

    crowded.strangers = usize::MAX;
    let error = filter.apply(&mut crowded, &ruleset(&full())).unwrap_err();
    assert!(matches!(error, FilterError::Refused(_)), "{error:?}");
}

#[test]
fn only_a_generation_that_is_not_ours_asks_for_a_look() {
    let (mut filter, mut kernel) = (Filter::default(), FakeKernel::default());
    apply(&mut filter, &mut kernel, &ruleset(&seed()));
    let event = |table: &str, generation| Event::Ruleset {
        table: table.to_owned(),
        generation,
    };
    let ours = kernel.generation;
    assert!(!filter.concerns(&event(TABLE, ours)));
    assert!(filter.concerns(&event(TABLE, ours + 1)));
    assert!(!filter.concerns(&event("nat", ours + 1)));
}

#[test]
fn a_machine_without_nftables_is_told_from_one_that_refuses() {
    let error = |kind: io::ErrorKind| KernelError {
        operation: "apply nft script",
        object: "nft".into(),
        message: String::new(),
        source: kind.into(),
    };
    let missing = FilterError::from(error(io::ErrorKind::NotFound));
    let FilterError::Missing(why) = missing else {
        panic!("{missing:?}")
    };
    assert!(why.contains("hint: install"), "{why}");
    let refused = FilterError::from(error(io::ErrorKind::Other));
    assert!(matches!(refused, FilterError::Refused(_)));
}

/// A thousand nodes are a set, not a thousand rules.
#[test]
fn the_number_of_rules_does_not_grow_with_the_cluster() {
    let lines = |snapshot: &Snapshot| ruleset(snapshot).script().lines().count();
    let mut large = seed();
    for i in 0..1000u32 {
        let address = std::net::Ipv4Addr::from(0x0a0d_0001 + i);
        let node = crate::fixtures::node(&format!("{address}/8"), None, &[]);
        large.nodes.insert(format!("n{i}"), node);
    }
    assert_eq!(lines(&large), lines(&seed()));
}
