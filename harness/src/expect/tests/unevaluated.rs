//! An expectation that nobody evaluates.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

fn message(work: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(work)).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| {
        let text = panic.downcast_ref::<&str>();
        text.map_or_else(String::new, ToString::to_string)
    }))
}

#[test]
fn it_panics_where_no_suite_can_be_told() {
    let recording = handshake();
    let text = message(|| drop(recording.on().none(arp()))).unwrap();
    assert!(
        text.starts_with("an expectation was never evaluated: on n1/ens192: none of arp"),
        "{text}"
    );
    assert!(text.contains("hint: end it with .now()"), "{text}");
}

#[test]
fn it_does_not_hide_a_panic_that_is_under_way() {
    let recording = handshake();
    let text = message(|| {
        let _pending = recording.on().none(arp());
        panic!("the first one");
    });
    assert_eq!(text.as_deref(), Some("the first one"));
}

#[test]
fn one_that_was_evaluated_is_silent_whatever_became_of_it() {
    let recording = handshake();
    assert_eq!(message(|| drop(recording.on().none(arp()).now())), None);
    let failing = || drop(recording.on().expect(arp()).now().unwrap_err());
    assert_eq!(message(failing), None);
    // Nothing was expected yet.
    assert_eq!(message(|| drop(recording.on())), None);
}
