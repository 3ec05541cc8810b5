//! Panics of tests: kept for the summary instead of printed between the lines of other tests.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};

use super::test::current;

thread_local! {
    static REPORT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on a panic on a thread that runs a test is kept for [`take`]; others are printed.
pub(super) fn keep() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if current().is_some() {
            REPORT.set(Some(report(info)));
        } else {
            print(info);
        }
    }));
}

/// What the hook has kept on this thread, else what the payload itself says.
pub(crate) fn take(payload: &(dyn Any + Send)) -> String {
    REPORT.take().unwrap_or_else(|| {
        let text = payload.downcast_ref::<&str>().copied();
        let owned = payload.downcast_ref::<String>().map(String::as_str);
        format!("panicked: {}", text.or(owned).unwrap_or("no message"))
    })
}

fn report(info: &PanicHookInfo<'_>) -> String {
    let trace = Backtrace::capture();
    match trace.status() {
        BacktraceStatus::Captured => format!("{info}\nstack backtrace:\n{trace}"),
        _ => info.to_string(),
    }
}
