//! The figures: printed as they come, kept as JSON.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// All figures of one run.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<Figure>);

/// One figure and what it is compared with.
#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
    reference: f64,
    ratio: f64,
}

impl Results {
    /// Adds a figure. `against` says in the output what the reference is.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
        reference: f64,
        against: &str,
    ) {
        let name = name.into();
        let ratio = value / reference;
        println!("{name:<44} {value:>10.2} {unit:<7} {ratio:>6.2} × {reference:.2} ({against})");
        self.0.push(Figure {
            name,
            unit,
            value,
            reference,
            ratio,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them as a list of `{name, unit, value, reference, ratio}`.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(path, serde_json::to_vec_pretty(&self.0)?)
        };
        write().with_context(|| format!("write {}", path.display()))
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
}
