//! The rules in the fabric: one nftables table of the family `bridge`, a chain for every fault.
//!
//! Which node a frame comes from is told by a mark that it gets where it enters the fabric; it
//! keeps the mark on its way through bridges and the gateway, and loses it in the node's wire. So
//! one rule where frames leave holds for nodes of one network and of different ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::error::Site;
use super::registry::{Faults, Inverse};
use crate::error::Error;
use crate::machine::Machine;
use crate::process::Program;

/// The one table that is ours.
const TABLE: &str = "podlab-faults";

/// What the rules in the kernel have in common.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The mark of what comes in by a port. Never given out twice: chains refer to them.
    marks: BTreeMap<String, u32>,
    /// How many faults have rules.
    users: usize,
}

/// A rule that drops and counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// Frames that came in by one of these ports and leave by one of those, and for which the
    /// expression is true.
    Between {
        from: Vec<String>,
        to: Vec<String>,
        when: String,
    },
    /// Frames that come in by one of these ports, wherever they go.
    From { ports: Vec<String>, when: String },
    /// Frames that leave by one of these ports, wherever they are from.
    To { ports: Vec<String>, when: String },
}

/// Puts the rules of one fault in; returns the way back.
pub(super) async fn put(
    faults: &Faults,
    fabric: &Machine,
    site: &Site,
    rules: Vec<Rule>,
) -> Result<Inverse, Error> {
    let number = faults.next_number();
    let mut table = faults.table().lock().await;
    let (script, marks) = table.script(number, &rules);
    run(fabric, &script)
        .await?
        .map_err(|why| site.refused("nftables with the family bridge", why))?;
    table.marks = marks;
    table.users += 1;
    drop(table);
    let (all, machine, back) = (faults.clone(), fabric.clone(), site.clone());
    let heal = move || remove(all.clone(), machine.clone(), back.clone(), number);
    let (machine, site) = (fabric.clone(), site.clone());
    let dropped = move || {
        let (machine, site) = (machine.clone(), site.clone());
        async move { dropped(&machine, &site, "bridge", TABLE, &chain(number)).await }
    };
    Ok(Inverse::new(heal).counting(dropped))
}

async fn remove(faults: Faults, fabric: Machine, site: Site, number: u64) -> Result<(), Error> {
    let mut table = faults.table().lock().await;
    let last = table.users == 1;
    let script = match last {
        true => format!("delete table bridge {TABLE}"),
        false => [chain(number), entry_chain(number)]
            .map(|chain| format!("delete chain bridge {TABLE} {chain}"))
            .join("\n"),
    };
    run(&fabric, &script)
        .await?
        .map_err(|why| site.refused("nftables with the family bridge", why))?;
    match last {
        true => *table = Table::default(),
        false => table.users -= 1,
    }
    Ok(())
}

/// Where frames leave, and with them the count of what is dropped anywhere.
fn chain(fault: u64) -> String {
    format!("fault-{fault}")
}

fn entry_chain(fault: u64) -> String {
    format!("fault-{fault}-entry")
}

impl Table {
    /// The script that adds a fault, and the marks that hold afterwards.
    fn script(&self, fault: u64, rules: &[Rule]) -> (String, BTreeMap<String, u32>) {
        let mut marks = self.marks.clone();
        let mut lines = String::new();
        let (leave, enter) = (chain(fault), entry_chain(fault));
        for rule in rules {
            let (chain, which, when) = match rule {
                Rule::Between { from, to, when } => {
                    let marks: Vec<String> = from
                        .iter()
                        .map(|port| {
                            let next = u32::try_from(marks.len()).unwrap_or(u32::MAX) + 1;
                            marks.entry(port.clone()).or_insert(next).to_string()
                        })
                        .collect();
                    let which =
                        format!("meta mark {{ {} }} oifname {}", marks.join(", "), names(to));
                    (&leave, which, when)
                }
                Rule::From { ports, when } => (&enter, format!("iifname {}", names(ports)), when),
                Rule::To { ports, when } => (&leave, format!("oifname {}", names(ports)), when),
            };
            writeln!(
                lines,
                "add rule bridge {TABLE} {chain} {which} {when} counter drop"
            )
            .ok();
        }
        let new = marks
            .iter()
            .filter(|(port, _)| !self.marks.contains_key(*port));
        let new: Vec<String> = new
            .map(|(port, mark)| format!("{port:?} : {mark}"))
            .collect();
        let mut script = format!("add table bridge {TABLE}\n");
        if self.users == 0 {
            writeln!(
                script,
                "add map bridge {TABLE} ports {{ type ifname : mark; }}\n\
                 add chain bridge {TABLE} sources {{ type filter hook prerouting priority -300; }}\n\
                 add rule bridge {TABLE} sources meta mark set iifname map @ports"
            )
            .ok();
        }
        if !new.is_empty() {
            let new = new.join(", ");
            writeln!(script, "add element bridge {TABLE} ports {{ {new} }}").ok();
        }
        // Behind every rule that a test may have of its own.
        writeln!(
            script,
            "add chain bridge {TABLE} {enter} {{ type filter hook prerouting priority 400; }}\n\
             add chain bridge {TABLE} {leave} {{ type filter hook postrouting priority 400; }}"
        )
        .ok();
        (script + &lines, marks)
    }
}

fn names(ports: &[String]) -> String {
    let names: Vec<String> = ports.iter().map(|port| format!("{port:?}")).collect();
    format!("{{ {} }}", names.join(", "))
}

/// Runs an nftables script as one transaction; the inner error is what `nft` objects to.
pub(super) async fn run(machine: &Machine, script: &str) -> Result<Result<(), String>, Error> {
    let output = machine.exec(Program::new("nft").arg(script)).await?;
    Ok(match output.status.success() {
        true => Ok(()),
        false => Err(output.stderr.trim().to_owned()),
    })
}

/// What the counters of a chain, and of its entry chain where there is one, add up to.
pub(super) async fn dropped(
    machine: &Machine,
    site: &Site,
    family: &str,
    table: &str,
    chain: &str,
) -> Result<u64, Error> {
    let list = Program::new("nft").args(["-j", "list", "table", family, table]);
    let output = machine.exec(list).await?;
    if !output.status.success() {
        return Err(site.refused("nftables", output.stderr.trim()));
    }
    count(&output.stdout, chain).ok_or_else(|| site.refused("nftables", "no counters in its list"))
}

fn count(listing: &str, chain: &str) -> Option<u64> {
    let listing: serde_json::Value = serde_json::from_str(listing).ok()?;
    let entry = format!("{chain}-entry");
    let rules = listing.get("nftables")?.as_array()?.iter();
    let rules = rules.filter_map(|object| object.get("rule"));
    let ours = rules.filter(|rule| {
        let of = rule.get("chain").and_then(|name| name.as_str());
        of == Some(chain) || of == Some(&entry)
    });
    let packets = ours.filter_map(|rule| {
        let expressions = rule.get("expr")?.as_array()?.iter();
        let mut counters = expressions.filter_map(|e| e.get("counter")?.get("packets")?.as_u64());
        counters.next()
    });
    Some(packets.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(from: &str, to: &str) -> Rule {
        Rule::Between {
            from: vec![from.into()],
            to: vec![to.into(), "port0".into()],
            when: String::new(),
        }
    }

    #[test]
    fn a_port_keeps_its_mark_and_what_is_there_is_not_added_again() {
        let mut table = Table::default();
        let (script, marks) = table.script(1, &[between("a", "b"), between("b", "a")]);
        assert!(script.contains("add map"), "{script}");
        assert!(
            script.contains("ports { \"a\" : 1, \"b\" : 2 }"),
            "{script}"
        );
        assert!(
            script.contains("fault-1 meta mark { 2 } oifname { \"a\", \"port0\" }  counter drop"),
            "{script}"
        );
        table = Table { marks, users: 1 };
        let (script, marks) = table.script(2, &[between("b", "c"), between("c", "a")]);
        assert!(!script.contains("add map"), "{script}");
        assert!(script.contains("ports { \"c\" : 3 }"), "{script}");
        assert!(script.contains("fault-2 meta mark { 2 }"), "{script}");
        assert_eq!(marks.len(), 3);
    }

    #[test]
    fn the_counters_of_one_fault_are_added_up() {
        let rule = |chain: &str, packets: u64| {
            format!(
                r#"{{"rule":{{"chain":"{chain}","expr":[{{"match":{{}}}},{{"counter":{{"packets":{packets},"bytes":1}}}},{{"drop":null}}]}}}}"#
            )
        };
        let rules = [
            rule("fault-1", 3),
            rule("fault-11", 40),
            rule("fault-1-entry", 500),
            rule("fault-1", 6000),
        ];
        let listing = format!(
            r#"{{"nftables":[{{"chain":{{"name":"fault-1"}}}},{}]}}"#,
            rules.join(",")
        );
        assert_eq!(count(&listing, "fault-1"), Some(6503));
        assert_eq!(count("no json", "fault-1"), None);
    }
}
