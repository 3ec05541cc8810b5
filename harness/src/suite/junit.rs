//! What became of the tests as a JUnit file, for CI systems and for the matrix of kernels.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::test::current;

/// Environment variable: a folder into which a suite writes what became of its tests,
/// `SUITE.xml`. Made where there is none.
pub const JUNIT: &str = "PODLAB_JUNIT";

/// The tests that have ended, in that order.
static ENDED: Mutex<Vec<TestCase>> = Mutex::new(Vec::new());

thread_local! {
    static PROPERTIES: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

/// How a test ended.
pub(super) enum End<'a> {
    Passed,
    Failed(&'a str),
    Skipped(&'a str),
}

/// Notes something about the calling test, to stand with it in the [`JUNIT`] file; the same twice
/// counts once. The harness itself notes the `encapsulation` of every agent that becomes ready.
///
/// Does nothing on a thread that runs no [`#[podlab::test]`](crate::test).
pub fn property(name: &str, value: &str) {
    if current().is_none() {
        return;
    }
    PROPERTIES.with_borrow_mut(|properties| {
        if !properties.iter().any(|(n, v)| n == name && v == value) {
            properties.push((name.to_owned(), value.to_owned()));
        }
    });
}

/// Keeps the end of the test `name`, which the calling thread has run.
pub(super) fn ended(name: &str, took: Duration, end: &End<'_>) {
    let mut case = case(name, took, end);
    for (name, value) in PROPERTIES.take() {
        case.add_property(Property::new(name, value));
    }
    // Whole between any two calls, also when a thread has panicked.
    let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
    ended.push(case);
}

fn case(name: &str, took: Duration, end: &End<'_>) -> TestCase {
    let status = match end {
        End::Passed => TestCaseStatus::success(),
        End::Failed(why) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(why.lines().next().unwrap_or_default());
            status.set_description(*why);
            status
        }
        End::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(*why);
            status
        }
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(suite_name()).set_time(took);
    case
}

/// Writes the file if [`JUNIT`] asks for it. Returns its path.
pub(super) fn write() -> io::Result<Option<PathBuf>> {
    let Some(folder) = std::env::var_os(JUNIT).filter(|folder| !folder.is_empty()) else {
        return Ok(None);
    };
    let cases = std::mem::take(&mut *ENDED.lock().unwrap_or_else(PoisonError::into_inner));
    let path = Path::new(&folder).join(format!("{}.xml", suite_name()));
    fs::create_dir_all(&folder)?;
    fs::write(&path, document(cases)?)?;
    Ok(Some(path))
}

fn document(mut cases: Vec<TestCase>) -> io::Result<String> {
    cases.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    let mut suite = TestSuite::new(suite_name());
    suite.set_time(cases.iter().filter_map(|case| case.time).sum());
    suite.add_test_cases(cases);
    let mut report = Report::new("podlab");
    report.add_test_suite(suite);
    report.to_string().map_err(io::Error::other)
}

/// The name of the test program, without the hash that cargo puts behind it.
fn suite_name() -> String {
    let program = std::env::args().next().unwrap_or_default();
    let name = Path::new(&program).file_stem().unwrap_or_default();
    let name = name.to_string_lossy();
    match name.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
            name.to_owned()
        }
        _ => name.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::test::set_current;

    #[test]
    fn every_end_has_its_word_and_characters_are_escaped() {
        let second = Duration::from_secs(1);
        let cases = vec![
            case("c", second, &End::Skipped("needs netem: no <module>")),
            case("b", second, &End::Failed("left != right\n 1 & 2")),
            case("a", second, &End::Passed),
        ];
        let text = document(cases).unwrap();
        let report = Report::deserialize_from_str(&text).unwrap();
        let suite = &report.test_suites[0];
        assert_eq!((suite.tests, suite.failures, suite.skipped), (3, 1, 1));
        assert_eq!(suite.name.as_str(), suite_name());
        let names: Vec<_> = suite.test_cases.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(
            text.contains(r#"message="needs netem: no &lt;module&gt;""#),
            "{text}"
        );
        assert!(
            text.contains("left != right\n 1 &amp; 2</failure>"),
            "{text}"
        );
    }

    #[test]
    fn properties_are_the_tests_that_noted_them() {
        property("backend", "nobodys");
        set_current(Some("a".to_owned()));
        property("backend", "kernel");
        property("backend", "kernel");
        property("backend", "ebpf");
        set_current(None);
        let noted = PROPERTIES.take();
        let backend = |value: &str| ("backend".to_owned(), value.to_owned());
        assert_eq!(noted, [backend("kernel"), backend("ebpf")]);
    }
}
