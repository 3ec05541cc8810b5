//! The table that shall be beside the one that is, rule by rule and element by element.
//!
//! [`Ruleset`] is written as `nft` lists it, so both are the same kind of text. What counts is what
//! stands in it, not how its lines are broken and in which order a hash table is listed.

use std::collections::BTreeSet;

use super::Ruleset;
use crate::compare::{Row, rows};

/// `actual` is the table as [`Nftables::list`](crate::platform::Nftables::list) has it.
pub(crate) fn compare(desired: &Ruleset, actual: Option<&str>) -> Vec<Row> {
    let actual = actual.map(Table::parse).unwrap_or_default();
    let desired = Table::parse(desired.script());
    let mut compared = rows(&desired.objects, &actual.objects);
    // With the same rules in another order others decide.
    if desired.objects == actual.objects && desired.order != actual.order {
        let text = |table: &Table| Some(format!("nft rules {}", table.order.join("; ")));
        compared.push(Row {
            desired: text(&desired),
            actual: text(&actual),
        });
    }
    compared
}

#[derive(Debug, Default)]
struct Table {
    /// Elements, rules, and what sets and chains are.
    objects: BTreeSet<String>,
    /// Rules in their order.
    order: Vec<String>,
}

impl Table {
    fn parse(text: &str) -> Self {
        let mut table = Self::default();
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .collect();
        let text = lines.join("\n");
        // Behind the preamble that replaces the former table.
        let mut rest = text.split_once('{').map_or("", |(_, body)| body);
        while let Some((head, behind)) = rest.split_once('{') {
            let (body, behind) = block(behind);
            rest = behind;
            match words(head).split_once(' ') {
                Some(("set", name)) => table.set(name, body),
                Some(("chain", name)) => table.chain(name, body),
                // Nothing of ours.
                _ => drop(table.objects.insert(format!("nft {}", words(head)))),
            }
        }
        table
    }

    fn set(&mut self, name: &str, body: &str) {
        let (kind, elements) = body.split_once("elements = {").unwrap_or((body, ""));
        let kind = words(&kind.replace(';', " "));
        self.objects.insert(format!("nft set {name}: {kind}"));
        let elements = block(elements).0.split(',').map(words);
        for element in elements.filter(|element| !element.is_empty()) {
            // A prefix of one address is listed as the address.
            let element = element.strip_suffix("/32").unwrap_or(&element);
            self.objects.insert(format!("nft set {name}: {element}"));
        }
    }

    fn chain(&mut self, name: &str, body: &str) {
        let rules = body.lines().map(words).filter(|rule| !rule.is_empty());
        for rule in rules {
            let rule = format!("nft chain {name}: {rule}");
            self.objects.insert(rule.clone());
            self.order.push(rule);
        }
    }
}

/// What stands before the brace that closes a block, and what behind it.
fn block(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (position, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return (&text[..position], &text[position + 1..]),
            '}' => depth -= 1,
            _ => {}
        }
    }
    (text, "")
}

/// With single spaces.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::{full, ruleset};
    use rstest::rstest;

    /// As nft 1.0.6 lists the table of the same cluster.
    const LISTING: &str = include_str!("tests/worker-1.list");

    fn different(actual: Option<&str>) -> Vec<Row> {
        let all = compare(&ruleset(&full()), actual);
        all.into_iter().filter(Row::differs).collect()
    }

    #[test]
    fn what_nft_lists_is_what_was_written() {
        let all = compare(&ruleset(&full()), Some(LISTING));
        let same = |row: &Row| !row.differs();
        assert!(all.iter().all(same), "{:#?}", different(Some(LISTING)));
        let element = "nft set pod_sources: \"cali0005aea454a\" . 192.168.1.2";
        for object in [
            element,
            "nft chain input: drop",
            "nft set pools: 172.16.0.0/16",
        ] {
            let shown = |row: &&Row| row.desired.as_deref() == Some(object);
            assert_eq!(all.iter().filter(shown).count(), 1, "{object}: {all:#?}");
        }
    }

    #[rstest]
    #[case::element_gone("10.12.22.1, ", "", Some("nft set nodes: 10.12.22.1"), None)]
    #[case::element_more(
        "10.12.22.1, ",
        "10.12.22.1, 10.9.9.9, ",
        None,
        Some("nft set nodes: 10.9.9.9")
    )]
    #[case::rule_more(
        "\t\tip daddr @nodes accept\n",
        "\t\taccept\n\t\tip daddr @nodes accept\n",
        None,
        Some("nft chain output: accept")
    )]
    #[case::rule_gone(
        "\t\tip daddr @nodes accept\n",
        "",
        Some("nft chain output: ip daddr @nodes accept"),
        None
    )]
    #[case::with_an_anonymous_set(
        "\t\tip daddr @nodes accept\n",
        "\t\tip daddr @nodes accept\n\t\ttcp dport { 22, 80 } accept\n",
        None,
        Some("nft chain output: tcp dport { 22, 80 } accept")
    )]
    #[case::chain_more(
        "\tchain input {",
        "\tchain other {\n\t\tdrop\n\t}\n\tchain input {",
        None,
        Some("nft chain other: drop")
    )]
    fn what_somebody_changed_is_one_row(
        #[case] good: &str,
        #[case] bad: &str,
        #[case] desired: Option<&str>,
        #[case] actual: Option<&str>,
    ) {
        let changed = LISTING.replacen(good, bad, 1);
        assert_ne!(changed, LISTING);
        let row = Row {
            desired: desired.map(str::to_owned),
            actual: actual.map(str::to_owned),
        };
        assert_eq!(different(Some(&changed)), [row]);
    }

    #[test]
    fn order_counts_among_rules_only() {
        let first = "\t\tip daddr @nodes accept\n";
        let second = "\t\tip daddr @external_nodes accept\n";
        let (a, b) = (format!("{first}{second}"), format!("{second}{first}"));
        let swapped = LISTING.replacen(&a, &b, 1);
        assert_ne!(swapped, LISTING);
        assert_eq!(different(Some(&swapped)).len(), 1);
        let elements = LISTING.replacen("10.12.22.1, 10.12.22.3", "10.12.22.3, 10.12.22.1", 1);
        assert_ne!(elements, LISTING);
        assert_eq!(different(Some(&elements)), []);
    }

    #[test]
    fn without_a_table_all_of_it_is_missing() {
        let rows = different(None);
        assert_eq!(rows.len(), compare(&ruleset(&full()), None).len());
        assert!(rows.iter().all(|row| row.actual.is_none()));
    }
}
