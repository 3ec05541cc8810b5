//! The patience factor: one number by which every time limit of the harness is stretched.
//!
//! Time limits in code are what an idle machine needs with a wide margin. A slow machine (a
//! shared runner, a guest without hardware virtualisation) sets [`VARIABLE`] to, say, `5`
//! or `auto`, which measures how slow it is, instead of anybody editing limits. Limits are stretched where they are *used*, so a caller
//! never scales a duration that it hands to the harness.

mod calibration;

use std::env;
use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;
use std::time::Duration;

/// Name of the environment variable that holds the factor: a decimal number of at least 1, or
/// [`AUTO`].
pub const VARIABLE: &str = "PODLAB_PATIENCE";

/// As the value of [`VARIABLE`]: measure at the start of the process how much slower than usual
/// this machine is, 20 times at the most. Takes some twenty milliseconds on a usual one.
pub const AUTO: &str = "auto";

/// The environment variable holds something that is no patience factor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{VARIABLE} is {value:?}, not a factor of at least 1\n\
     hint: unset it, or set it to `{AUTO}` or to a number such as 1, 2.5 or 10"
)]
pub struct PatienceError {
    value: OsString,
}

/// The factor from the environment, 1 where it is unset; read once per process.
///
/// # Errors
/// When the variable is set to something else than a finite number of at least 1.
pub fn patience() -> Result<f64, PatienceError> {
    static FACTOR: OnceLock<Result<f64, PatienceError>> = OnceLock::new();
    FACTOR
        .get_or_init(|| env::var_os(VARIABLE).map_or(Ok(1.0), |value| parse(&value)))
        .clone()
}

/// `limit` times the [`patience`] factor; the longest duration there is if that overflows.
///
/// # Errors
/// As [`patience`].
pub fn scaled(limit: Duration) -> Result<Duration, PatienceError> {
    patience().map(|factor| stretch(limit, factor))
}

/// So many things a second, divided by the [`patience`] factor; at least one.
///
/// # Errors
/// As [`patience`].
pub fn slowed(rate: u32) -> Result<u32, PatienceError> {
    patience().map(|factor| divide(rate, factor))
}

fn parse(value: &OsStr) -> Result<f64, PatienceError> {
    value
        .to_str()
        .and_then(|text| match text.trim() {
            AUTO => Some(calibration::factor()),
            number => number.parse().ok(),
        })
        .filter(|factor| factor.is_finite() && *factor >= 1.0)
        .ok_or_else(|| PatienceError {
            value: value.to_owned(),
        })
}

fn stretch(limit: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(limit.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

fn divide(rate: u32, factor: f64) -> u32 {
    // It fits: the factor is at least 1.
    (f64::from(rate) / factor).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::os::unix::ffi::OsStrExt;

    #[rstest]
    #[case("1", 1.0)]
    #[case("2.5", 2.5)]
    #[case(" 10 ", 10.0)]
    fn a_factor_of_at_least_one_is_taken(#[case] text: &str, #[case] factor: f64) {
        assert_eq!(parse(OsStr::new(text)), Ok(factor));
    }

    #[test]
    fn auto_measures() {
        assert!(parse(OsStr::new("auto")).is_ok_and(|factor| factor >= 1.0));
    }

    #[rstest]
    #[case("")]
    #[case("0.99")]
    #[case("-3")]
    #[case("inf")]
    #[case("NaN")]
    #[case("slow")]
    fn anything_else_is_an_error_that_shows_the_value(#[case] text: &str) {
        let message = parse(OsStr::new(text)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("PODLAB_PATIENCE is {text:?}, not a factor")));
        assert!(message.lines().last().unwrap().starts_with("hint: "));
    }

    #[test]
    fn a_value_that_is_not_unicode_is_an_error() {
        assert!(parse(OsStr::from_bytes(b"\xff2")).is_err());
    }

    #[rstest]
    #[case(1000, 1.0, 1000)]
    #[case(1000, 8.0, 125)]
    #[case(20, 3.0, 7)]
    #[case(1, 20.0, 1)]
    fn a_rate_is_divided_and_something_remains(
        #[case] rate: u32,
        #[case] factor: f64,
        #[case] slowed: u32,
    ) {
        assert_eq!(divide(rate, factor), slowed);
    }

    #[test]
    fn stretching_multiplies_and_never_overflows() {
        assert_eq!(
            stretch(Duration::from_millis(400), 2.5),
            Duration::from_secs(1)
        );
        assert_eq!(
            stretch(Duration::from_millis(1), 1.0),
            Duration::from_millis(1)
        );
        assert_eq!(stretch(Duration::MAX, 10.0), Duration::MAX);
    }
}
