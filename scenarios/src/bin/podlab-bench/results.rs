//! The figures: printed as they come, kept as JSON.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// All figures of one run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    figures: Vec<Figure>,
    /// Goals that were not reached, in words.
    missed: Vec<String>,
}

/// One figure and what it is compared with. No two of a run have the same name.
#[derive(Debug, Serialize, Deserialize)]
struct Figure {
    name: String,
    unit: String,
    value: f64,
    reference: f64,
    ratio: f64,
}

impl Results {
    /// Adds a figure. `against` says in the output what the reference is.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        unit: &str,
        value: f64,
        reference: f64,
        against: &str,
    ) {
        let name = name.into();
        let ratio = value / reference;
        println!("{name:<56} {value:>10.2} {unit:<7} {ratio:>6.2} × {reference:.2} ({against})");
        self.figures.push(Figure {
            name,
            unit: unit.to_owned(),
            value,
            reference,
            ratio,
        });
    }

    /// Adds a figure that shall be at most `goal`; [`Results::reached`] fails if it is more.
    pub(crate) fn add_with_goal(
        &mut self,
        name: impl Into<String>,
        unit: &str,
        value: f64,
        goal: f64,
    ) {
        let name = name.into();
        // A figure that is no number has reached nothing.
        let order = value.partial_cmp(&goal);
        if !order.is_some_and(Ordering::is_le) {
            let missed = format!("{name}: {value:.2} {unit}, at most {goal:.2} is the goal");
            self.missed.push(missed);
        }
        self.add(name, unit, value, goal, "the goal");
    }

    /// Adds a figure of which more is better, and that shall be at least `least` times the
    /// reference; [`Results::reached`] fails if it is less.
    pub(crate) fn add_at_least(
        &mut self,
        name: impl Into<String>,
        unit: &str,
        value: f64,
        (reference, against): (f64, &str),
        least: f64,
    ) {
        let name = name.into();
        let ratio = value / reference;
        let order = ratio.partial_cmp(&least);
        if !order.is_some_and(Ordering::is_ge) {
            let missed = format!("{name}: {ratio:.2}, at least {least:.2} is the goal");
            self.missed.push(missed);
        }
        self.add(name, unit, value, reference, against);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }

    /// Fails with all goals that were missed.
    pub(crate) fn reached(&self) -> Result<()> {
        let missed = &self.missed;
        ensure!(missed.is_empty(), "missed: {}", missed.join("\n  "));
        Ok(())
    }

    /// Writes them as a list of `{name, unit, value, reference, ratio}`. Of a run of `some`
    /// benchmarks the figures take the place of those of the same name, and the others stay.
    pub(crate) fn save(&self, path: &Path, some: bool) -> Result<()> {
        let write = || {
            let names: BTreeSet<&str> = self.figures.iter().map(|f| f.name.as_str()).collect();
            ensure!(
                names.len() == self.figures.len(),
                "two figures have the same name"
            );
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let kept = if some { read(path)? } else { Vec::new() };
            let kept = kept.iter().filter(|f| !names.contains(f.name.as_str()));
            let all: Vec<&Figure> = kept.chain(&self.figures).collect();
            std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
            Ok(())
        };
        write().with_context(|| format!("write {}", path.display()))
    }
}

/// The figures of an earlier run; none where there was none.
fn read(path: &Path) -> Result<Vec<Figure>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// A duration in milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The value below which `share` of the samples lie. There must be samples.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    // In range: a share of at most 1 of the last index.
    samples[((samples.len() - 1) as f64 * share).round() as usize]
}

/// The middle one of the samples.
pub(crate) fn median(samples: &mut [f64]) -> f64 {
    percentile(samples, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let mut samples: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        assert_eq!(median(&mut samples), 51.0);
        assert_eq!(percentile(&mut samples, 0.99), 100.0);
        assert_eq!(percentile(&mut samples, 1.0), 101.0);
        assert_eq!(percentile(&mut [7.0], 0.99), 7.0);
    }

    #[test]
    fn a_run_of_some_keeps_the_figures_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/results.json");
        let run = |figures: &[(&str, f64)], some| {
            let mut results = Results::default();
            for (name, value) in figures {
                results.add(*name, "ms", *value, 2.0, "two");
            }
            results.save(&path, some)
        };
        let saved = || -> Vec<(String, f64)> {
            let figures = read(&path).unwrap();
            figures.into_iter().map(|f| (f.name, f.ratio)).collect()
        };
        let figure = |name: &str, ratio| (name.to_owned(), ratio);
        run(&[("a", 2.0), ("b", 4.0)], true).unwrap();
        run(&[("b", 6.0), ("c", 2.0)], true).unwrap();
        assert_eq!(
            saved(),
            [figure("a", 1.0), figure("b", 3.0), figure("c", 1.0)]
        );
        assert!(
            run(&[("a", 1.0), ("a", 2.0)], true).is_err(),
            "which is it?"
        );
        run(&[("d", 2.0)], false).unwrap();
        assert_eq!(saved(), [figure("d", 1.0)]);
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: Vec<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(&text).unwrap();
        let keys: BTreeSet<&str> = rows[0].keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "unit", "value", "reference", "ratio"].into());
    }

    #[test]
    fn a_missed_goal_fails_the_run() {
        let mut results = Results::default();
        results.add_with_goal("a", "ms", 10.0, 10.0);
        assert!(results.reached().is_ok());
        results.add_with_goal("b", "ms", 10.1, 10.0);
        results.add_with_goal("c", "ms", f64::NAN, 10.0);
        let error = results.reached().unwrap_err().to_string();
        assert!(
            error.contains("b: 10.10 ms") && error.contains("c: NaN"),
            "{error}"
        );
        assert!(!error.contains("a:"), "{error}");
    }

    #[test]
    fn so_does_too_small_a_part_of_the_reference() {
        let mut results = Results::default();
        results.add_at_least("a", "Gbit/s", 9.0, (10.0, "plain"), 0.9);
        assert!(results.reached().is_ok());
        results.add_at_least("b", "Gbit/s", 8.9, (10.0, "plain"), 0.9);
        results.add_at_least("c", "Gbit/s", 0.0, (0.0, "plain"), 0.0);
        let error = results.reached().unwrap_err().to_string();
        assert!(
            error.contains("b: 0.89, at least 0.90") && error.contains("c: NaN"),
            "{error}"
        );
        assert!(!error.contains("a:"), "{error}");
    }
}
