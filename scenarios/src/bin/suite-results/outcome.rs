//! What became of one scenario with one backend on one kernel: its cases, counted.

use std::collections::{BTreeMap, BTreeSet};

use quick_junit::{Report, TestCase, TestCaseStatus};
use serde::Serialize;

/// A cell of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) kernel: String,
    pub(crate) suite: String,
    /// Module and function: `fit::item_02_the_longest_packet_fits`.
    pub(crate) scenario: String,
    /// The backends of its nodes: `ebpf`, `ebpf+kernel`; empty where no agent ran.
    pub(crate) backend: String,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Why cases were skipped or have failed, one line each.
    pub(crate) reasons: BTreeSet<String>,
    /// The time of all cases together.
    pub(crate) seconds: f64,
}

/// One outcome for each scenario and backend, in the order of suite, scenario and backend.
pub(crate) fn collect(kernel: &str, reports: &[Report]) -> Vec<Outcome> {
    let mut outcomes: BTreeMap<(String, String, String), Outcome> = BTreeMap::new();
    for suite in reports.iter().flat_map(|report| &report.test_suites) {
        for case in &suite.test_cases {
            let (scenario, backend) = (scenario(case.name.as_str()), backend(case));
            let key = (
                suite.name.as_str().to_owned(),
                scenario.clone(),
                backend.clone(),
            );
            let outcome = outcomes.entry(key).or_insert_with(|| Outcome {
                kernel: kernel.to_owned(),
                suite: suite.name.as_str().to_owned(),
                scenario,
                backend,
                passed: 0,
                failed: 0,
                skipped: 0,
                reasons: BTreeSet::new(),
                seconds: 0.0,
            });
            outcome.add(case);
        }
    }
    outcomes.into_values().collect()
}

impl Outcome {
    fn add(&mut self, case: &TestCase) {
        self.seconds += case.time.unwrap_or_default().as_secs_f64();
        let message = match &case.status {
            TestCaseStatus::Success { .. } => {
                self.passed += 1;
                None
            }
            TestCaseStatus::Skipped { message, .. } => {
                self.skipped += 1;
                message.as_ref()
            }
            // Whatever else there may come to be is no success.
            TestCaseStatus::NonSuccess { message, .. } => {
                self.failed += 1;
                message.as_ref()
            }
        };
        self.reasons
            .extend(message.map(|text| text.as_str().to_owned()));
    }
}

/// The name without its cases, as rstest names these: `case_3_the_name`, `argument_2_value`. They
/// come after the module and the function.
fn scenario(name: &str) -> String {
    let is_case = |segment: &str| {
        let mut parts = segment.split('_').skip(1);
        parts.any(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
    };
    let cases = |(index, segment): &(usize, &str)| *index < 2 || !is_case(segment);
    let segments = name.split("::").enumerate().take_while(cases);
    segments
        .map(|(_, segment)| segment)
        .collect::<Vec<_>>()
        .join("::")
}

/// What the test was to have (`backend`) and what its agents took (`encapsulation`).
fn backend(case: &TestCase) -> String {
    let backends: BTreeSet<&str> = case
        .properties
        .iter()
        .filter(|property| ["backend", "encapsulation"].contains(&property.name.as_str()))
        .map(|property| property.value.as_str())
        .filter(|value| !value.is_empty())
        .collect();
    Vec::from_iter(backends).join("+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_junit::{NonSuccessKind, Property, TestSuite};
    use std::time::Duration;

    fn case(name: &str, status: TestCaseStatus, backends: &[&str]) -> TestCase {
        let mut case = TestCase::new(name, status);
        case.set_time(Duration::from_secs(2));
        for backend in backends {
            case.add_property(Property::new("encapsulation", *backend));
        }
        case
    }

    #[test]
    fn cases_of_a_scenario_are_counted_by_backend() {
        let mut failure = TestCaseStatus::non_success(NonSuccessKind::Failure);
        failure.set_message("no answer");
        let mut suite = TestSuite::new("dynamic");
        suite.add_test_cases([
            case(
                "fit::it_fits::mode_1_Always",
                TestCaseStatus::success(),
                &["ebpf"],
            ),
            case("fit::it_fits::mode_2_Never", failure, &["ebpf"]),
            case(
                "fit::it_fits::mode_3_X",
                TestCaseStatus::skipped(),
                &["kernel"],
            ),
            case(
                "fit::it_fits::mode_4_X",
                TestCaseStatus::success(),
                &["kernel", "ebpf"],
            ),
        ]);
        let mut report = Report::new("podlab");
        report.add_test_suite(suite);
        let report = Report::deserialize_from_str(&report.to_string().unwrap()).unwrap();

        let found: Vec<_> = collect("6.1", &[report])
            .into_iter()
            .map(|o| {
                (
                    o.scenario,
                    o.backend,
                    (o.passed, o.failed, o.skipped),
                    o.seconds,
                )
            })
            .collect();
        let row = |backend: &str, counts, seconds| {
            (
                "fit::it_fits".to_owned(),
                backend.to_owned(),
                counts,
                seconds,
            )
        };
        assert_eq!(
            found,
            [
                row("ebpf", (1, 1, 0), 4.0),
                row("ebpf+kernel", (1, 0, 0), 2.0),
                row("kernel", (0, 0, 1), 2.0),
            ]
        );
    }

    #[test]
    fn a_number_in_a_functions_name_makes_no_case() {
        for (name, expected) in [
            (
                "each::a_ping_of_1440_bytes::backend_1___ebpf__",
                "each::a_ping_of_1440_bytes",
            ),
            ("pairs::all::one_1___kernel__::two_2___ebpf__", "pairs::all"),
            ("http::get::case_3", "http::get"),
            ("deep::er::than_usual::case_1_a", "deep::er::than_usual"),
            ("isolation::two_clusters", "isolation::two_clusters"),
        ] {
            assert_eq!(scenario(name), expected);
        }
    }
}
