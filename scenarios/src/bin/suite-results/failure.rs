//! A test that failed, and what it has said.

use quick_junit::{Report, TestCaseStatus};

/// So much of what a test has said is told in short, of what stands before a stack.
const LINES: usize = 12;
const LINE_LENGTH: usize = 240;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `program: test`.
    pub(crate) title: String,
    pub(crate) why: String,
}

/// Those of a suite's JUnit file.
pub(crate) fn of_report(report: &Report) -> Vec<Failure> {
    let mut failures = Vec::new();
    for suite in &report.test_suites {
        for case in &suite.test_cases {
            if let TestCaseStatus::NonSuccess {
                message,
                description,
                ..
            } = &case.status
            {
                let why = description.as_ref().or(message.as_ref());
                failures.push(Failure {
                    title: format!("{}: {}", suite.name.as_str(), case.name.as_str()),
                    why: why.map_or("failed", |text| text.as_str()).to_owned(),
                });
            }
        }
    }
    failures
}

impl Failure {
    /// A few lines for people: the test, and the beginning of what it has said.
    pub(crate) fn in_short(&self) -> String {
        let mut text = format!("✗ {}\n", self.title);
        let is_stack = |line: &&str| line.trim().eq_ignore_ascii_case("stack backtrace:");
        let said = self.why.lines().take_while(|line| !is_stack(line));
        let said = said.filter(|line| !line.trim().is_empty());
        for line in said.clone().take(LINES) {
            let cut: String = line.chars().take(LINE_LENGTH).collect();
            text.push_str(&format!("    {cut}\n"));
        }
        let more = said.count().saturating_sub(LINES);
        if more > 0 {
            text.push_str(&format!("    … {more} more lines\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_junit::{NonSuccessKind, TestCase, TestSuite};

    #[test]
    fn what_failed_is_told_and_nothing_else() {
        let mut failure = TestCaseStatus::non_success(NonSuccessKind::Failure);
        failure.set_description("100% lost\nhint: look");
        let mut suite = TestSuite::new("seed");
        suite.add_test_cases([
            TestCase::new("ping::a", TestCaseStatus::success()),
            TestCase::new("ping::b", failure),
            TestCase::new("ping::c", TestCaseStatus::skipped()),
        ]);
        let mut report = Report::new("podlab");
        report.add_test_suite(suite);
        let failures = of_report(&report);
        assert_eq!(failures.len(), 1, "{failures:?}");
        let short = "✗ seed: ping::b\n    100% lost\n    hint: look\n";
        assert_eq!(failures[0].in_short(), short);
    }

    #[test]
    fn a_long_story_is_cut_and_says_so() {
        let lines: Vec<String> = (1..=20).map(|number| format!("line {number}")).collect();
        let failure = Failure {
            title: "a: b".to_owned(),
            why: lines.join("\n\n") + "\nStack backtrace:\n   0: main",
        };
        let short = failure.in_short();
        assert!(
            short.contains("    line 12\n    … 8 more lines\n"),
            "{short}"
        );
        assert!(
            !short.contains("line 13") && !short.contains("main"),
            "{short}"
        );
    }
}
