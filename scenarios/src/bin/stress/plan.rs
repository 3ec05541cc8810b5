//! Which scenario comes next.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use podlab::fault::Random;

use crate::execution::Execution;

/// An endless order of all scenarios: every one comes once before any comes again.
pub(crate) struct Plan {
    scenarios: Vec<(PathBuf, String)>,
    /// What is left of this round.
    round: Vec<usize>,
    random: Random,
    given: usize,
}

impl Plan {
    /// Asks the test programs for their scenarios; takes those whose name contains `part`.
    pub(crate) fn new(programs: &[PathBuf], part: &str, seed: u64) -> Result<Self> {
        let mut scenarios = Vec::new();
        for program in programs {
            let of = || format!("list the tests of {}", program.display());
            let list = Command::new(program)
                .args(["--list", "--format", "terse"])
                .output()
                .with_context(of)?;
            ensure!(list.status.success(), "{}: {}", of(), list.status);
            let list = String::from_utf8(list.stdout).with_context(of)?;
            let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
            let wanted = names.filter(|name| name.contains(part));
            scenarios.extend(wanted.map(|name| (program.clone(), name.to_owned())));
        }
        ensure!(!scenarios.is_empty(), "no scenario is named so");
        // The same seed gives the same order, in whatever order the programs were named.
        scenarios.sort();
        Ok(Self {
            scenarios,
            round: Vec::new(),
            random: Random::new(seed),
            given: 0,
        })
    }

    pub(crate) fn scenarios(&self) -> usize {
        self.scenarios.len()
    }

    /// The next one, until `executions` were given that were not taken back by
    /// [`skip`](Self::skip).
    pub(crate) fn next(&mut self, executions: usize) -> Option<Execution> {
        if self.given >= executions {
            return None;
        }
        if self.round.is_empty() {
            let all = u32::try_from(self.scenarios.len()).unwrap_or(u32::MAX);
            let order = self.random.choose(all, all);
            self.round = order.into_iter().map(|index| index as usize).collect();
        }
        let (program, name) = self.scenarios.get(self.round.pop()?)?.clone();
        self.given += 1;
        Some(Execution {
            number: self.given,
            program,
            name,
        })
    }

    /// It cannot be executed here: it does not count and does not come again.
    pub(crate) fn skip(&mut self, execution: &Execution) {
        self.given -= 1;
        let skipped = |(program, name): &(PathBuf, String)| {
            (program, name) == (&execution.program, &execution.name)
        };
        let Some(at) = self.scenarios.iter().position(skipped) else {
            return;
        };
        self.scenarios.remove(at);
        self.round.retain(|index| *index != at);
        for index in self.round.iter_mut().filter(|index| **index > at) {
            *index -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan {
            scenarios: ('a'..='j')
                .map(|name| ("program".into(), name.into()))
                .collect(),
            round: Vec::new(),
            random: Random::new(seed),
            given: 0,
        }
    }

    fn names(plan: &mut Plan, executions: usize) -> String {
        std::iter::from_fn(|| plan.next(executions).map(|next| next.name)).collect()
    }

    #[test]
    fn every_scenario_comes_once_in_each_round_and_the_seed_repeats_the_order() {
        let order = names(&mut plan(7), 25);
        assert_eq!(order, names(&mut plan(7), 25));
        assert_ne!(order, names(&mut plan(8), 25));
        for round in [&order[..10], &order[10..20]] {
            let mut sorted: Vec<char> = round.chars().collect();
            sorted.sort_unstable();
            assert_eq!(String::from_iter(sorted), "abcdefghij");
        }
        assert_ne!(order[..10], order[10..20]);
    }

    #[test]
    fn what_is_skipped_is_replaced_and_does_not_come_again() {
        let mut plan = plan(7);
        let mut executed = 0;
        while let Some(next) = plan.next(30) {
            if next.name == "c" {
                plan.skip(&next);
            } else {
                executed += 1;
            }
        }
        assert_eq!((executed, plan.scenarios()), (30, 9));
    }
}
