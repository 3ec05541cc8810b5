//! Failures as GitHub's workflow commands, which it shows above a run.

use quick_junit::{Report, TestCaseStatus};

/// `::error title=…::…`, one line for each failed test.
pub(crate) fn failures(report: &Report) -> String {
    let mut lines = String::new();
    for suite in &report.test_suites {
        for case in &suite.test_cases {
            if let TestCaseStatus::NonSuccess {
                message,
                description,
                ..
            } = &case.status
            {
                let title = format!("{}: {}", suite.name.as_str(), case.name.as_str());
                let why = description.as_ref().or(message.as_ref());
                let why = why.map_or("failed", |text| text.as_str());
                lines.push_str(&error(&title, why));
            }
        }
    }
    lines
}

/// One line for one failure.
pub(crate) fn error(title: &str, why: &str) -> String {
    format!("::error title={}::{}\n", property(title), data(why))
}

/// What would end the message is escaped as @actions/core does it.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// In a property a colon or a comma would end it, too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_junit::{NonSuccessKind, TestCase, TestSuite};

    #[test]
    fn a_failure_is_one_line_and_nothing_else_is_told() {
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
        assert_eq!(
            failures(&report),
            "::error title=seed%3A ping%3A%3Ab::100%25 lost%0Ahint: look\n"
        );
    }
}
