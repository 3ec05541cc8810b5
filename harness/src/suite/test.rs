//! One test: its name, how it ended, and which one this thread is running.

use std::cell::RefCell;
use std::fmt::Debug;

use super::{Feature, skip};

/// What is left to say of a test that came to its end: nothing, or why it failed.
pub type Outcome = Result<(), String>;

/// What a test function may return.
pub trait IntoOutcome {
    /// The failure in the words that libtest would use.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Ok(())
    }
}

impl<E: Debug> IntoOutcome for Result<(), E> {
    fn into_outcome(self) -> Outcome {
        self.map_err(|error| format!("Error: {error:?}"))
    }
}

/// A function that [`#[podlab::test]`](crate::test) has put on the list of the program's tests.
#[derive(Debug)]
pub struct Test {
    module: &'static str,
    function: &'static str,
    needs: &'static [Feature],
    run: fn() -> Outcome,
}

inventory::collect!(Test);

impl Test {
    /// `module` as `module_path!()` gives it.
    pub const fn new(
        module: &'static str,
        function: &'static str,
        needs: &'static [Feature],
        run: fn() -> Outcome,
    ) -> Self {
        Self {
            module,
            function,
            needs,
            run,
        }
    }

    /// Runs it on the calling thread; unwinds as a skip where the kernel lacks what it needs.
    pub(super) fn run(&self) -> Outcome {
        for feature in self.needs {
            if let Err(why) = feature.probe() {
                skip(feature.name(), why);
            }
        }
        (self.run)()
    }

    /// As libtest names it: the path of the function without the crate.
    pub fn name(&self) -> String {
        match self.module.split_once("::") {
            Some((_crate, module)) => format!("{module}::{}", self.function),
            None => self.function.to_owned(),
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The name of the test that the calling thread runs.
pub fn current() -> Option<String> {
    CURRENT.with_borrow(Clone::clone)
}

pub(super) fn set_current(name: Option<String>) {
    CURRENT.set(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_libtest() {
        let test = |module| Test::new(module, "a", &[], || Ok(())).name();
        assert_eq!(test("seed::ping::every_pair"), "ping::every_pair::a");
        assert_eq!(test("seed"), "a");
    }

    #[test]
    fn an_error_is_told_with_its_sources() {
        let error: Result<(), _> = Err(std::fmt::Error);
        assert_eq!(error.into_outcome(), Err("Error: Error".to_owned()));
    }
}
