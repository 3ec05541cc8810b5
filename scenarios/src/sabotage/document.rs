//! The table of sabotages as a document: what `docs/sabotage.md` has to be.

use super::{Sabotage, all};

const HEAD: &str = "\
# Broken networks that are noticed and named

The harness is tested against networks that are broken on purpose. Every sabotage below breaks a
running cluster of three nodes. The checks in the third column must notice it (others may, too), and
a trace from `test-tools` on `k8s-worker-1` to `c2c-network-demo-w2` on `k8s-worker-2` must name the
place and the cause. With every encapsulation that the kernel offers, `make sabotage` runs all of
them, and the network that nobody has broken, and writes `target/podlab/sabotage.json`; `make test`
runs each as a test of its own.

This page is made by `cargo run -p podlab-scenarios --features netns --bin sabotage -- --document`;
a test holds it to what the code demands.

| sabotage | what is broken | noticed by | place | cause |
|---|---|---|---|---|
";

/// The document.
pub fn document() -> String {
    let rows = all().iter().map(row).collect::<String>();
    format!("{HEAD}{rows}")
}

fn row(sabotage: &Sabotage) -> String {
    let Sabotage {
        name,
        breaks,
        expected,
        ..
    } = sabotage;
    let (after, before) = expected.hop;
    let place = match after {
        Some(after) => format!("{after} → {before}"),
        None => format!("before {before}"),
    };
    let (noticed, cause) = (expected.noticed_by.join(", "), expected.cause);
    format!("| {name} | {breaks} | {noticed} | {place} | {cause} |\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sabotage::checks;

    /// If this fails, the documents tell of other sabotages than those that are tested.
    #[test]
    fn the_document_is_what_the_code_demands() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sabotage.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            written,
            document(),
            "docs/sabotage.md is old; write it anew as it says itself"
        );
    }

    #[test]
    fn only_checks_that_there_are_notice_something() {
        for sabotage in all() {
            let noticed = sabotage.expected.noticed_by;
            assert!(!noticed.is_empty(), "{} goes unnoticed", sabotage.name);
            for name in noticed {
                let known = checks::ALL.iter().any(|check| check.name == *name);
                assert!(known, "{}: there is no check {name}", sabotage.name);
            }
        }
    }
}
