//! Failures that are not the end of a test: what went wrong while nobody could return an error.

use std::cell::RefCell;

use super::test::current;

thread_local! {
    static ADDED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Makes the test that this thread runs fail when it ends, beside whatever else becomes of it.
/// False where no test runs.
pub(crate) fn add_failure(text: &str) -> bool {
    let is_test = current().is_some();
    if is_test {
        ADDED.with_borrow_mut(|added| added.push(text.to_owned()));
    }
    is_test
}

/// What was added since it was asked last, one after the other.
pub(super) fn take() -> Option<String> {
    let added = ADDED.take();
    (!added.is_empty()).then(|| added.join("\n"))
}
