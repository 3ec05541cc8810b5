//! Failures of libtest, from what it has printed.

use crate::annotation::error;

/// `::error title=…::…`, one line for each failed test of an output of `cargo test`.
///
/// A failure stands there as `---- NAME stdout ----` with what the test has said below it, until
/// the next one or an empty line before `failures:`. Suites print theirs the same way without
/// `stdout`; they have JUnit files, and are left to these.
pub(crate) fn failures(log: &str) -> String {
    let mut program = "";
    let mut told = String::new();
    let mut failure: Option<(&str, Vec<&str>)> = None;
    let tell = |program: &str, failure: Option<(&str, Vec<&str>)>| {
        failure.map_or(String::new(), |(name, said)| {
            error(&format!("{program}: {name}"), said.join("\n").trim())
        })
    };
    for line in log.lines() {
        if let Some(running) = running(line) {
            told.push_str(&tell(program, failure.take()));
            program = running;
        } else if let Some(name) = header(line) {
            told.push_str(&tell(program, failure.take()));
            failure = Some((name, Vec::new()));
        } else if line == "failures:" || line.starts_with("test result: ") {
            told.push_str(&tell(program, failure.take()));
        } else if let Some((_, said)) = &mut failure {
            said.push(line);
        }
    }
    told.push_str(&tell(program, failure));
    told
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
        let told = failures(LOG);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 3, "{told}");
        let bad = "::error title=unittests src/lib.rs%3A a%3A%3Abad::thread 'a::bad' panicked \
                   at src/a.rs:3:9:%0Aassertion `left == right` failed%0A  left: 1%0A right: 2";
        assert_eq!(lines[0], bad);
        assert!(
            lines[1].ends_with("a%3A%3Aworse::Error: 100%25 lost"),
            "{told}"
        );
        let doc = "::error title=podlab%3A src/lib.rs - (line 7)::it does not compile";
        assert_eq!(lines[2], doc);
    }

    #[test]
    fn a_suite_and_what_passed_are_not_told() {
        let suite = "---- ping::a ----\nError: lost\n\nfailures:\n    ping::a\n";
        assert_eq!(failures(suite), "");
        assert_eq!(
            failures("running 1 test\ntest a ... ok\n\ntest result: ok.\n"),
            ""
        );
    }
}
