//! The tables of sabotages as a document: what `docs/sabotage.md` has to be.

use super::{Row, Sabotage, all};

const HEAD: &str = "\
# Broken networks that are noticed and named

The harness is tested against networks that are broken on purpose. Every sabotage below breaks a
running cluster of three nodes. The checks in the third column must notice it (others may, too), and
a trace from `test-tools` on `k8s-worker-1` to `c2c-network-demo-w2` on `k8s-worker-2` must name the
place and the cause. With every encapsulation that the kernel offers, `make sabotage` runs all of
them, and the network that nobody has broken, and writes `target/podlab/sabotage.json`; `make test`
runs each as a test of its own.

This page is made by `cargo run -p podlab-scenarios --features netns --bin sabotage -- --document`
from the code and from the last run of `make sabotage`; a test holds both tables to what the code
demands.

## What is demanded

| sabotage | what is broken | noticed by | place | cause |
|---|---|---|---|---|
";

const MEASURED: &str = "
## What was measured

By one run, with the encapsulations that its kernel offered.

| sabotage | encapsulation | caught by | hop named |
|---|---|---|---|
";

/// The document, with what a run has measured.
pub fn document(measured: &[Row]) -> String {
    let measured = measured.iter().map(measured_row).collect::<String>();
    format!("{}{MEASURED}{measured}", demanded())
}

/// All before the measured table: it follows from the code alone.
fn demanded() -> String {
    let rows = all().iter().map(row).collect::<String>();
    format!("{HEAD}{rows}")
}

fn measured_row(row: &Row) -> String {
    let caught = match row.caught_by.join(", ") {
        none if none.is_empty() => "nobody".to_owned(),
        caught => caught,
    };
    let hop = without_digits(&row.hop_named);
    format!(
        "| {} | {} | {caught} | {hop} |\n",
        row.sabotage, row.backend
    )
}

/// The interfaces of pods as the demanded table has them: `cali…`.
fn without_digits(hop: &str) -> String {
    let mut parts = hop.split("cali");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
        text += &format!("cali…{rest}");
    }
    text
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
    use std::collections::BTreeSet;
    use std::iter;

    use super::*;
    use crate::sabotage::checks;

    /// If this fails, the documents tell of other sabotages than those that are tested.
    #[test]
    fn the_document_is_what_the_code_demands() {
        let (written, _) = written();
        assert_eq!(written, demanded(), "{OLD}");
    }

    /// If this fails, the measured table is of other sabotages than those that there are, or shows
    /// one that went unnoticed or was named wrongly.
    #[test]
    fn what_was_measured_is_of_all_sabotages_and_what_the_code_demands() {
        let (_, measured) = written();
        let rows: Vec<Vec<&str>> = measured
            .lines()
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        let backends: BTreeSet<&str> = rows.iter().map(|row| row[1]).collect();
        assert!(!backends.is_empty(), "{OLD}");
        for backend in backends {
            let own = rows.iter().filter(|row| row[1] == backend);
            let own: Vec<&[&str]> = own.map(Vec::as_slice).collect();
            let names: Vec<&str> = own.iter().map(|row| row[0]).collect();
            let all = all();
            let expected = iter::once("none").chain(all.iter().map(|sabotage| sabotage.name));
            assert_eq!(names, expected.collect::<Vec<_>>(), "{backend}: {OLD}");
            assert_eq!(own[0][2..], ["nobody", "nowhere"], "{OLD}");
            for (sabotage, row) in all.iter().zip(&own[1..]) {
                let caught: Vec<&str> = row[2].split(", ").collect();
                for check in sabotage.expected.noticed_by {
                    assert!(caught.contains(check), "{row:?} lacks {check}; {OLD}");
                }
                for check in caught {
                    let known = checks::ALL.iter().any(|known| known.name == check);
                    assert!(known, "{row:?}: there is no check {check}; {OLD}");
                }
                let (after, before) = sabotage.expected.hop;
                let hop = match after {
                    Some(after) => format!("between {after} and {before}"),
                    None => format!("before {before}"),
                };
                assert_eq!(row[3], hop, "{row:?}; {OLD}");
            }
        }
    }

    #[test]
    fn interfaces_of_pods_have_no_digits() {
        let hop = "between n1/cali182c452fe96 and n1/calib3a9b371b64";
        assert_eq!(without_digits(hop), "between n1/cali… and n1/cali…");
        assert_eq!(without_digits("nowhere"), "nowhere");
    }

    const OLD: &str = "docs/sabotage.md is old; write it anew as it says itself";

    /// What there is, before and behind the head of the measured table.
    fn written() -> (String, String) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sabotage.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let (demanded, measured) = written.split_once(MEASURED).unwrap_or((&written, ""));
        (demanded.to_owned(), measured.to_owned())
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
