//! Errors as people read them: what, why, and what to do.
//!
//! An error's own text says what failed and may end with a line `hint: …`; why is in its chain
//! of sources.

use std::error::Error;

const HINT: &str = "hint: ";

/// What failed and why, then the hints, each on a line of its own.
pub(crate) fn lines(error: &dyn Error) -> String {
    let (what, hints) = split(error);
    let hints = hints.into_iter().map(|hint| format!("\n{HINT}{hint}"));
    std::iter::once(what).chain(hints).collect()
}

/// The same on a single line, for logs.
pub(crate) fn line(error: &dyn Error) -> String {
    let (what, hints) = split(error);
    let hints = hints.into_iter().map(|hint| format!("; {HINT}{hint}"));
    let text: String = std::iter::once(what).chain(hints).collect();
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

fn split(error: &dyn Error) -> (String, Vec<String>) {
    let mut what = Vec::new();
    let mut hints = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let (hint, own): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with(HINT));
        hints.extend(hint.into_iter().map(|line| line[HINT.len()..].to_owned()));
        what.push(own.join("\n"));
        next = error.source();
    }
    (what.join(": "), hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open it\n  really not\nhint: try {hint}")]
    struct Outer {
        hint: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn the_reason_follows_and_the_hint_comes_last() {
        let error = Outer {
            hint: "harder",
            source: std::io::Error::other("it is shut"),
        };
        assert_eq!(
            lines(&error),
            "cannot open it\n  really not: it is shut\nhint: try harder"
        );
        assert_eq!(
            line(&error),
            "cannot open it; really not: it is shut; hint: try harder"
        );
    }
}
