//! The test runner of scenario suites: libtest's command line and summary, and what libtest
//! cannot do.
//!
//! A test program that wants it is declared with `harness = false` and says
//! [`podlab::suite!()`](crate::suite!) where others have `main`; its tests carry
//! [`#[podlab::test]`](crate::test) where others have `#[test]` or `#[tokio::test]`, also below
//! `#[rstest]`.
//!
//! What it adds: the program moves into the [sandbox](mod@crate::sandbox) by itself, and a test may
//! end as a *named [skip]*, neither passed nor failed, when the kernel lacks what it
//! needs. Where `CI` is set such a skip is a failure, unless [`ALLOW`] lists the feature. A test
//! that needs one of the [`Feature`]s says so in its attribute; for anything else there is
//! [`skip`]. Where [`JUNIT`] is set the program also writes down what became of every test.
//!
//! ```no_run
//! podlab::suite!();
//!
//! #[podlab::test(needs = "netem")] // or several: needs = ["netem", "ipip"]
//! async fn a_late_answer_is_an_answer() {
//!     // …
//! }
//!
//! #[podlab::test]
//! async fn a_tun_device_can_be_made() -> Result<(), std::io::Error> {
//!     if !std::fs::exists("/dev/net/tun")? {
//!         podlab::suite::skip("tun", "there is no /dev/net/tun");
//!     }
//!     // …
//!     Ok(())
//! }
//! ```

mod added;
mod feature;
mod junit;
mod pace;
mod panics;
mod run;
mod skip;
mod test;
mod watched;

pub(crate) use added::add_failure;
pub use feature::Feature;
pub use junit::{JUNIT, property};
pub use run::{block_on, main, main_outside};
pub use skip::{ALLOW, skip};
pub use test::{IntoOutcome, Outcome, Test, current};
pub use watched::run;

pub(crate) use panics::take as panic_text;
use run::runtime;

/// The `main` of a test program whose tests carry [`#[podlab::test]`](crate::test).
///
/// `suite!(outside)` does not enter the sandbox: for tests that start programs which do, and look at
/// them from the host. They boot no clusters of their own.
#[macro_export]
macro_rules! suite {
    () => {
        fn main() -> ::std::process::ExitCode {
            $crate::suite::main()
        }
    };
    (outside) => {
        fn main() -> ::std::process::ExitCode {
            $crate::suite::main_outside()
        }
    };
}
