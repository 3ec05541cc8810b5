//! One sabotage, examined: who noticed it, and what the trace said.

use std::time::Duration;

use anyhow::Result;
use podlab::trace::{Stretch, Trace};
use serde::{Deserialize, Serialize};

use super::{Probe, Sabotage, World, checks};
use crate::backend::Lacking;

/// A row of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The sabotage; `none` for the network that nobody has broken.
    pub sabotage: String,
    /// What is broken.
    pub breaks: String,
    /// The encapsulation of the agents.
    pub backend: String,
    /// The checks that failed.
    pub caught_by: Vec<String>,
    /// Where the trace had to find it.
    pub hop_expected: String,
    /// Where it found it.
    pub hop_named: String,
    /// What it had to find.
    pub cause_expected: String,
    /// What it found: the one-line diagnosis.
    pub diagnosis: String,
    /// Caught by every check that must catch it, and named rightly.
    pub good: bool,
}

/// What a row tells whoever asks who noticed what, and where: the rows of `sabotage.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary<'a> {
    /// The sabotage; `none` for the network that nobody has broken.
    pub sabotage: &'a str,
    /// The checks that failed.
    pub caught_by: &'a [String],
    /// Where the trace had to find it.
    pub hop_expected: &'a str,
    /// Where it found it.
    pub hop_named: &'a str,
}

impl Row {
    /// Its summary.
    pub fn summary(&self) -> Summary<'_> {
        Summary {
            sabotage: &self.sabotage,
            caught_by: &self.caught_by,
            hop_expected: &self.hop_expected,
            hop_named: &self.hop_named,
        }
    }
}

/// Boots a cluster, breaks it, and asks the checks and a trace about it. Without a sabotage
/// nothing may be noticed.
///
/// # Errors
/// When the cluster cannot be booted or broken. What is not caught is no error: see [`Row::good`].
pub async fn examine(
    sabotage: Option<&Sabotage>,
    backend: &str,
) -> Result<Result<Examined, Lacking>> {
    let world = match World::boot(backend).await? {
        Ok(world) => world,
        Err(lacking) => return Ok(Err(lacking)),
    };
    let held = match sabotage {
        Some(sabotage) => Some((sabotage.apply)(&world).await?),
        None => None,
    };
    // First the trace: the checks leave neighbours known that a sabotage has made unknown.
    let probe = sabotage.map_or(Probe::Small, |sabotage| sabotage.probe);
    let trace = world.trace(probe).await?;
    let mut failures = Vec::new();
    for check in checks::ALL {
        if let Err(error) = (check.ask)(&world).await {
            failures.push((check.name, format!("{error:#}")));
        }
    }
    drop(held);
    Ok(Ok(Examined {
        row: row(sabotage, &world, &trace, &failures),
        trace,
        failures,
    }))
}

/// A row, and what it was made of.
#[derive(Debug)]
pub struct Examined {
    /// The row.
    pub row: Row,
    /// The trace.
    pub trace: Trace,
    /// The checks that failed, and why.
    pub failures: Vec<(&'static str, String)>,
}

fn row(
    sabotage: Option<&Sabotage>,
    world: &World,
    trace: &Trace,
    failures: &[(&'static str, String)],
) -> Row {
    let diagnosis = trace.diagnosis();
    let hop_named = diagnosis.map(|diagnosis| diagnosis.stretch.to_string());
    let hop_named = hop_named.unwrap_or_else(|| NOWHERE.to_owned());
    let expected = sabotage.map(|sabotage| &sabotage.expected);
    let hop_expected = match expected {
        Some(expected) => {
            let (after, before) = expected.hop;
            let stretch = Stretch {
                after: after.map(|place| place.point(world)),
                before: Some(before.point(world)),
            };
            stretch.to_string()
        }
        None => NOWHERE.to_owned(),
    };
    let cause = diagnosis.map(|diagnosis| &diagnosis.cause);
    let good = match expected {
        Some(expected) => {
            let noticed = |name: &&str| failures.iter().any(|(failed, _)| failed == name);
            let all_noticed = expected.noticed_by.iter().all(noticed);
            all_noticed && hop_named == hop_expected && cause.is_some_and(expected.is)
        }
        None => failures.is_empty() && trace.is_delivered(),
    };
    Row {
        sabotage: sabotage.map_or("none", |sabotage| sabotage.name).to_owned(),
        breaks: sabotage
            .map_or("nothing", |sabotage| sabotage.breaks)
            .to_owned(),
        backend: world.backend.clone(),
        caught_by: failures
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        hop_expected,
        hop_named,
        cause_expected: expected
            .map_or("none", |expected| expected.cause)
            .to_owned(),
        diagnosis: diagnosis.map_or_else(|| trace.verdict().to_string(), ToString::to_string),
        good,
    }
}

/// What stands for the hop where nothing is wrong.
const NOWHERE: &str = "nowhere";

impl World {
    /// An address of the sender's own block that nobody has.
    pub(super) fn unassigned(&self) -> std::net::Ipv4Addr {
        let [a, b, c, _] = self.from.address().octets();
        std::net::Ipv4Addr::new(a, b, c, 199)
    }

    async fn trace(&self, probe: Probe) -> Result<Trace> {
        /// Nothing takes longer here.
        const ANSWER: Duration = Duration::from_millis(500);
        let cluster = &self.cluster;
        let request = match probe {
            Probe::Unassigned => cluster.trace(&self.from, self.unassigned()),
            _ => cluster.trace(&self.from, &self.to),
        };
        let request = match probe {
            Probe::Full => request.size(self.mtu_of(&self.from).await? as usize),
            Probe::Many(count) => request.probes(count),
            Probe::Small | Probe::Unassigned => request,
        };
        Ok(request.timeout(ANSWER).await?)
    }
}

/// The rows as text, one line each.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let mark = if row.good { " " } else { "✗" };
        text += &format!(
            "{mark} {:<22} {:<10} {:<48} {}\n",
            row.sabotage,
            row.backend,
            row.caught_by.join(" "),
            row.diagnosis
        );
        if row.hop_named != row.hop_expected {
            text += &format!("    expected {}\n", row.hop_expected);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, whoever reads `sabotage.json` does not find what it is said to have.
    #[test]
    fn a_row_of_the_file_has_four_fields() {
        let row = Row {
            sabotage: "proxy-arp-off".to_owned(),
            breaks: "the node does not answer".to_owned(),
            backend: "ebpf".to_owned(),
            caught_by: vec!["icmp".to_owned(), "tcp".to_owned()],
            hop_expected: "between a and b".to_owned(),
            hop_named: "between a and c".to_owned(),
            cause_expected: "nobody answers".to_owned(),
            diagnosis: "lost".to_owned(),
            good: false,
        };
        let expected = serde_json::json!({
            "sabotage": "proxy-arp-off",
            "caught_by": ["icmp", "tcp"],
            "hop_expected": "between a and b",
            "hop_named": "between a and c",
        });
        assert_eq!(serde_json::to_value(row.summary()).unwrap(), expected);
    }
}
