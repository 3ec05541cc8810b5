//! The table as people read it: a row for each scenario and backend, a column for each kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::outcome::Outcome;

/// Markdown that is aligned, so that it can be read as text.
pub(crate) fn markdown(kernels: &[&str], outcomes: &[Outcome]) -> String {
    let mut rows: BTreeMap<[&str; 3], BTreeMap<&str, String>> = BTreeMap::new();
    for outcome in outcomes {
        let key = [&*outcome.suite, &*outcome.scenario, &*outcome.backend];
        let row = rows.entry(key).or_default();
        row.insert(&outcome.kernel, cell(outcome));
    }
    let mut lines = vec![["suite", "scenario", "backend"].map(str::to_owned).to_vec()];
    lines[0].extend(kernels.iter().map(|kernel| (*kernel).to_owned()));
    for (key, cells) in &rows {
        let mut line = key.map(str::to_owned).to_vec();
        let cell = |kernel: &&str| cells.get(*kernel).cloned().unwrap_or_default();
        line.extend(kernels.iter().map(cell));
        lines.push(line);
    }
    let mut text = aligned(&lines);
    for kernel in kernels {
        text.push_str(&total(kernel, outcomes));
    }
    text
}

fn cell(outcome: &Outcome) -> String {
    let counts = [
        (outcome.failed, "FAILED"),
        (outcome.passed, "passed"),
        (outcome.skipped, "skipped"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    counts.join(", ")
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        text.push('|');
        for (word, width) in line.iter().zip(&widths) {
            // Writing to a string cannot fail.
            write!(text, " {word:width$} |").ok();
        }
        text.push('\n');
        if number == 0 {
            text.push('|');
            for width in &widths {
                text.push_str(&"-".repeat(width + 2));
                text.push('|');
            }
            text.push('\n');
        }
    }
    text
}

/// The sums of a kernel, and for want of what cases were skipped there.
fn total(kernel: &str, outcomes: &[Outcome]) -> String {
    let of_kernel = || outcomes.iter().filter(|outcome| outcome.kernel == kernel);
    let sum = |count: fn(&Outcome) -> usize| of_kernel().map(count).sum::<usize>();
    let missing: BTreeSet<&str> = of_kernel()
        .filter(|outcome| outcome.skipped > 0)
        .flat_map(|outcome| &outcome.reasons)
        .filter_map(|reason| reason.strip_prefix("needs ")?.split(':').next())
        .collect();
    let mut text = format!(
        "\n{kernel}: {} passed, {} failed, {} skipped",
        sum(|o| o.passed),
        sum(|o| o.failed),
        sum(|o| o.skipped)
    );
    if !missing.is_empty() {
        let missing = Vec::from_iter(missing).join(", ");
        write!(text, " (for want of {missing})").ok();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kernel: &str, backend: &str, counts: [usize; 3], reasons: &[&str]) -> Outcome {
        Outcome {
            kernel: kernel.to_owned(),
            suite: "seed".to_owned(),
            scenario: "ping::pairs".to_owned(),
            backend: backend.to_owned(),
            passed: counts[0],
            failed: counts[1],
            skipped: counts[2],
            reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
            seconds: 1.0,
        }
    }

    #[test]
    fn rows_are_scenarios_with_backends_and_columns_are_kernels() {
        let outcomes = [
            outcome("6.1", "kernel", [2, 1, 0], &["no answer"]),
            outcome("6.1", "ebpf", [3, 0, 0], &[]),
            outcome(
                "host",
                "kernel",
                [0, 0, 3],
                &["needs encap-kernel: no module"],
            ),
        ];
        let expected = "\
| suite | scenario    | backend | 6.1                | host      |
|-------|-------------|---------|--------------------|-----------|
| seed  | ping::pairs | ebpf    | 3 passed           |           |
| seed  | ping::pairs | kernel  | 1 FAILED, 2 passed | 3 skipped |

6.1: 5 passed, 1 failed, 0 skipped

host: 0 passed, 0 failed, 3 skipped (for want of encap-kernel)
";
        assert_eq!(markdown(&["6.1", "host"], &outcomes), expected);
    }
}
