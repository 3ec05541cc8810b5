//! Failures as GitHub's workflow commands, which it shows above a run.

use crate::failure::Failure;

/// `::error title=…::…`, one line.
pub(crate) fn error(Failure { title, why }: &Failure) -> String {
    format!("::error title={}::{}\n", property(title), data(why))
}

/// What would end the message is escaped as @actions/core does it.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// In a property a colon or a comma would end it, too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure {
            title: "seed: ping::b".to_owned(),
            why: "100% lost\nhint: look".to_owned(),
        };
        assert_eq!(
            error(&failure),
            "::error title=seed%3A ping%3A%3Ab::100%25 lost%0Ahint: look\n"
        );
    }
}
