//! Failures of libtest, from what it has printed.

use crate::failure::Failure;

/// Each failed test of an output of `cargo test`.
///
/// A failure stands there as `---- NAME stdout ----` with what the test has said below it, until
/// the next one or an empty line before `failures:`. Suites print theirs the same way without
/// `stdout`; they have JUnit files, and are left to these.
pub(crate) fn failures(log: &str) -> Vec<Failure> {
    let mut program = "";
    let mut failures = Vec::new();
    // Whose lines they are that follow.
    let mut speaks = false;
    for line in log.lines() {
        if let Some(running) = running(line) {
            program = running;
            speaks = false;
        } else if let Some(name) = header(line) {
            failures.push(Failure {
                title: format!("{program}: {name}"),
                why: String::new(),
            });
            speaks = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            speaks = false;
        } else if let Some(failure) = failures.last_mut().filter(|_| speaks) {
            failure.why.push_str(line);
            failure.why.push('\n');
        }
    }
    for failure in &mut failures {
        failure.why = failure.why.trim().to_owned();
    }
    failures
}

/// `     Running unittests src/lib.rs (target/…)`, `   Doc-tests podlab`: what is tested.
fn running(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let program = line
        .strip_prefix("Running ")
        .or(line.strip_prefix("Doc-tests "))?;
    Some(
        program
            .split_once(" (")
            .map_or(program, |(program, _)| program),
    )
}

fn header(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "     Running unittests src/lib.rs (target/debug/deps/podlab-1)

running 3 tests
test a::good ... ok
test a::bad ... FAILED
test a::worse ... FAILED

failures:

---- a::bad stdout ----

thread 'a::bad' panicked at src/a.rs:3:9:
assertion `left == right` failed
  left: 1
 right: 2

---- a::worse stdout ----
Error: 100% lost

failures:
    a::bad
    a::worse

test result: FAILED. 1 passed; 2 failed; 0 ignored
   Doc-tests podlab

failures:

---- src/lib.rs - (line 7) stdout ----
it does not compile

failures:
    src/lib.rs - (line 7)
";

    #[test]
    fn each_failure_is_told_once_with_what_it_said() {
        let failures = failures(LOG);
        let told = |number: usize| {
            let Failure { title, why } = &failures[number];
            (title.as_str(), why.as_str())
        };
        assert_eq!(failures.len(), 3, "{failures:?}");
        let bad = "thread 'a::bad' panicked at src/a.rs:3:9:\nassertion `left == right` failed\n  \
                   left: 1\n right: 2";
        assert_eq!(told(0), ("unittests src/lib.rs: a::bad", bad));
        let worse = ("unittests src/lib.rs: a::worse", "Error: 100% lost");
        assert_eq!(told(1), worse);
        let doc = ("podlab: src/lib.rs - (line 7)", "it does not compile");
        assert_eq!(told(2), doc);
    }

    #[test]
    fn a_suite_and_what_passed_are_not_told() {
        let suite = "---- ping::a ----\nError: lost\n\nfailures:\n    ping::a\n";
        assert_eq!(failures(suite), []);
        let passed = "running 1 test\ntest a ... ok\n\ntest result: ok.\n";
        assert_eq!(failures(passed), []);
    }
}
