//! A test that failed, and what it has said.

use quick_junit::{Report, TestCaseStatus};

/// So much of what a test has said is told in short, of what stands before a stack.
const LINES: usize = 12;
/// So much of the cause, where it does not stand in these.
const CAUSE_LINES: usize = 6;
/// How `anyhow` begins it.
const CAUSE: &str = "Caused by:";
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
    /// A few lines for people: the test, the beginning of what it has said, and the cause, which
    /// stands at the end of a long story.
    pub(crate) fn in_short(&self) -> String {
        let is_stack = |line: &&str| line.trim().eq_ignore_ascii_case("stack backtrace:");
        let said = self.why.lines().take_while(|line| !is_stack(line));
        let said: Vec<&str> = said.filter(|line| !line.trim().is_empty()).collect();
        let (beginning, rest) = said.split_at(said.len().min(LINES));
        let cause = rest.iter().position(|line| line.trim() == CAUSE);
        let (left_out, rest) = rest.split_at(cause.unwrap_or(0));
        let told = if cause.is_some() { CAUSE_LINES } else { 0 };
        let (cause, more) = rest.split_at(rest.len().min(told));

        let mut text = format!("✗ {}\n", self.title);
        for (lines, left_out) in [(beginning, left_out), (cause, more)] {
            for line in lines {
                let cut: String = line.chars().take(LINE_LENGTH).collect();
                text.push_str(&format!("    {cut}\n"));
            }
            if !left_out.is_empty() {
                text.push_str(&format!("    … {} more lines\n", left_out.len()));
            }
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

    #[test]
    fn the_cause_is_told_however_long_the_story() {
        let story: Vec<String> = (1..=20).map(|number| format!("line {number}")).collect();
        let cause: Vec<String> = (1..=20)
            .map(|number| format!("    cause {number}"))
            .collect();
        let failure = Failure {
            title: "a: b".to_owned(),
            why: format!("{}\n\nCaused by:\n{}", story.join("\n"), cause.join("\n")),
        };
        let short = failure.in_short();
        let end = "    line 12\n    … 8 more lines\n    Caused by:\n        cause 1\n        cause 2\n        \
                   cause 3\n        cause 4\n        cause 5\n    … 15 more lines\n";
        assert!(short.ends_with(end), "{short}");
    }
}
