//! Skips: a test that cannot be run here says so by name, and is neither passed nor failed.

use std::fmt::Display;
use std::panic::resume_unwind;

/// Environment variable: names of features, separated by commas, for want of which tests may be
/// skipped even where `CI` is set.
pub const ALLOW: &str = "PODLAB_ALLOW_SKIP";

/// How a skip travels from the depth of a test to the runner.
pub(super) struct Skip {
    feature: String,
    why: String,
}

/// Ends the calling test: it cannot be run here for want of `feature`, a single word.
///
/// Only on the thread of a [`#[podlab::test]`](crate::test): it unwinds to the runner as a panic
/// would, without a panic's message.
pub fn skip(feature: &str, why: impl Display) -> ! {
    resume_unwind(Box::new(Skip {
        feature: feature.to_owned(),
        why: why.to_string(),
    }))
}

impl Skip {
    /// The reason in one line; as an error where this skip is not allowed. `allowed` is the value
    /// of [`ALLOW`].
    pub(super) fn judge(&self, ci: bool, allowed: &str) -> Result<String, String> {
        let Self { feature, why } = self;
        let reason = format!("needs {feature}: {}", why.replace('\n', "; "));
        if !ci || allowed.split(',').any(|name| name.trim() == feature) {
            return Ok(reason);
        }
        Err(format!(
            "{reason}\n\
             hint: where CI is set a skip is a failure; provide what is missing, or allow the \
             skip by name: {ALLOW}={feature}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_ci_only_what_is_named_may_be_skipped() {
        let skip = Skip {
            feature: "ipip".to_owned(),
            why: "no module\nhint: load it".to_owned(),
        };
        let reason = "needs ipip: no module; hint: load it".to_owned();
        assert_eq!(skip.judge(false, ""), Ok(reason.clone()));
        assert_eq!(skip.judge(true, "netem, ipip"), Ok(reason));
        for allowed in ["", "netem", "ipip6"] {
            let error = skip.judge(true, allowed).expect_err("a failure");
            assert!(
                error.ends_with("allow the skip by name: PODLAB_ALLOW_SKIP=ipip"),
                "{error}"
            );
        }
    }
}
