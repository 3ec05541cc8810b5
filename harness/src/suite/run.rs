//! `main`: the program's tests as trials of `libtest_mimic`.

use std::collections::BTreeMap;
use std::env;
use std::num::NonZero;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

use super::junit::{self, End, JUNIT};
use super::pace::{Pace, Room};
use super::skip::{ALLOW, Skip};
use super::test::{Test, set_current};
use super::{Outcome, added, panics};
use crate::{patience, sandbox};

/// From when on a test that is still running is named, as libtest does it.
const LONG: Duration = Duration::from_secs(60);

/// What runs now, and since when.
static RUNNING: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

/// Runs the tests that the command line selects, inside the sandbox; what [`suite!`](crate::suite!)
/// expands to.
///
/// Takes libtest's arguments, `--list` and `--exact` of other runners included. Exit code 0 when
/// nothing failed, 101 when something did, 1 when the sandbox cannot be entered.
pub fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Before any thread exists; does nothing for `--list`.
    sandbox::enter_or_exit();
    run_tests(arguments, AtOnce::usual())
}

/// The same outside of any sandbox, one test for each core: these start whole runs of others. What
/// [`suite!(outside)`](crate::suite!) expands to.
pub fn main_outside() -> ExitCode {
    run_tests(Arguments::from_args(), AtOnce::steady(1))
}

fn run_tests(mut arguments: Arguments, for_each_core: AtOnce) -> ExitCode {
    let at_once = match arguments.test_threads {
        Some(threads) => AtOnce::steady(threads),
        None => at_once(for_each_core),
    };
    arguments.test_threads = Some(at_once.most);
    let pace = Arc::new(Pace::new(at_once.steady, at_once.room));
    panics::keep();
    let tests = inventory::iter::<Test>();
    let mut trials: Vec<Trial> = tests.map(|test| trial(test, Arc::clone(&pace))).collect();
    // The order of the list is the linker's.
    trials.sort_by(|one, other| one.name().cmp(other.name()));
    if !arguments.list {
        std::thread::spawn(name_the_slow);
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return conclusion.exit_code();
    }
    match junit::write() {
        Ok(_) => conclusion.exit_code(),
        Err(error) => {
            eprintln!("podlab: cannot write what became of the tests: {JUNIT}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many tests run at a time, for each core or in all.
#[derive(Debug, Clone, Copy, PartialEq)]
struct AtOnce {
    /// Whatever the machine does.
    steady: usize,
    /// While its processors have something left to give.
    most: usize,
    room: Room,
}

impl AtOnce {
    const fn steady(tests: usize) -> Self {
        Self {
            steady: tests,
            most: tests,
            room: Room::USUAL,
        }
    }

    /// For each core: tests mostly wait.
    fn usual() -> Self {
        const SLOW: f64 = 3.0;
        let (most, room) = match patience::patience() {
            Ok(factor) if factor > SLOW => (6, Room::SLOW),
            _ => (4, Room::USUAL),
        };
        Self {
            steady: 2,
            most,
            room,
        }
    }
}

/// How many tests run at a time unless the command line says so: as many as libtest's variable
/// `RUST_TEST_THREADS` says, else so many for each core.
fn at_once(for_each_core: AtOnce) -> AtOnce {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let stated = env::var("RUST_TEST_THREADS").ok();
    at_once_of(cores, stated.as_deref(), for_each_core)
}

fn at_once_of(cores: usize, stated: Option<&str>, for_each_core: AtOnce) -> AtOnce {
    match stated {
        Some(stated) => AtOnce::steady(stated.parse().unwrap_or(cores)),
        None => AtOnce {
            steady: for_each_core.steady * cores,
            most: for_each_core.most * cores,
            ..for_each_core
        },
    }
}

/// Drives an asynchronous test on a runtime of its own, on the calling thread.
///
/// # Panics
/// When the runtime cannot be built.
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    runtime().block_on(test)
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("cannot build the test's runtime: {error}"))
}

fn trial(test: &'static Test, pace: Arc<Pace>) -> Trial {
    let name = test.name();
    Trial::ignorable_test(name.clone(), move || {
        let _turn = pace.turn();
        running().insert(name.clone(), Instant::now());
        set_current(Some(name.clone()));
        let end = catch_unwind(|| test.run());
        set_current(None);
        let since = running().remove(&name);
        let completion = with_added(completion(end), added::take());
        let took = since.map(|since| since.elapsed()).unwrap_or_default();
        junit::ended(&name, took, &end_of(&completion));
        completion
    })
}

fn completion(end: std::thread::Result<Outcome>) -> Result<Completion, Failed> {
    let payload = match end {
        Ok(Ok(())) => return Ok(Completion::Completed),
        Ok(Err(error)) => return Err(error.into()),
        Err(payload) => payload,
    };
    match payload.downcast_ref::<Skip>() {
        Some(skip) => {
            let ci = env::var_os("CI").is_some();
            let reason = skip.judge(ci, &env::var(ALLOW).unwrap_or_default())?;
            Ok(Completion::ignored_with(reason))
        }
        None => Err(panics::take(&*payload).into()),
    }
}

/// A failure that was added makes a test fail that did not, and is told beside one that did.
fn with_added(
    completion: Result<Completion, Failed>,
    added: Option<String>,
) -> Result<Completion, Failed> {
    match (completion, added) {
        (completion, None) | (completion @ Ok(Completion::Ignored { .. }), Some(_)) => completion,
        (Ok(_), Some(added)) => Err(added.into()),
        (Err(failed), Some(added)) => {
            let first = failed.message().unwrap_or_default();
            Err(format!(
                "{first}
and: {added}"
            )
            .into())
        }
    }
}

fn end_of(completion: &Result<Completion, Failed>) -> End<'_> {
    match completion {
        Ok(Completion::Ignored { reason }) => End::Skipped(reason.as_deref().unwrap_or_default()),
        Ok(_) => End::Passed,
        Err(failed) => End::Failed(failed.message().unwrap_or_default()),
    }
}

fn running() -> std::sync::MutexGuard<'static, BTreeMap<String, Instant>> {
    // The map is whole between any two calls, also when a thread has panicked.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names every test once that takes long: one that hangs is found without a debugger.
fn name_the_slow() {
    let long = patience::scaled(LONG).unwrap_or(LONG);
    let mut named = BTreeMap::new();
    loop {
        std::thread::park_timeout(long / 10);
        for (name, since) in running().iter() {
            if since.elapsed() > long && named.get(name) != Some(since) {
                named.insert(name.clone(), *since);
                eprintln!("test {name} has been running for over {long:.0?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_tests_for_each_core_unless_something_else_is_stated() {
        let room = Room::SLOW;
        let for_each_core = AtOnce {
            steady: 2,
            most: 6,
            room,
        };
        let at_once = |stated| at_once_of(6, stated, for_each_core);
        let expected = AtOnce {
            steady: 12,
            most: 36,
            room,
        };
        assert_eq!(at_once(None), expected);
        assert_eq!(at_once(Some("5")), AtOnce::steady(5));
        assert_eq!(at_once(Some("many")), AtOnce::steady(6));
    }

    #[test]
    fn what_was_added_fails_a_test_and_never_hides_its_own_failure() {
        let added = || Some("an expectation was never evaluated".to_owned());
        let message = |completion, added| {
            let failed = with_added(completion, added).err();
            failed.and_then(|failed| failed.message().map(str::to_owned))
        };
        assert_eq!(message(Ok(Completion::Completed), None), None);
        assert_eq!(message(Ok(Completion::Completed), added()), added());
        assert_eq!(
            message(Err("no route".into()), added()).as_deref(),
            Some("no route\nand: an expectation was never evaluated")
        );
        let skipped = Completion::ignored_with("needs ipip");
        assert_eq!(message(Ok(skipped), added()), None);
    }
}
