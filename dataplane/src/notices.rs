//! What the log was told already: a trouble that lasts is logged once, and once when it is over.

use std::collections::BTreeSet;

use tracing::info;

/// The troubles that last.
#[derive(Debug, Default)]
pub(crate) struct Notices(BTreeSet<String>);

impl Notices {
    /// Calls `tell` for each of `now` that was not there before.
    pub(crate) fn update(&mut self, now: BTreeSet<String>, tell: impl Fn(&str)) {
        for new in now.difference(&self.0) {
            tell(new);
        }
        for over in self.0.difference(&now) {
            info!("over: {over}");
        }
        self.0 = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_trouble_that_lasts_is_told_once_and_again_when_it_returns() {
        let told = RefCell::new(Vec::new());
        let mut notices = Notices::default();
        for now in [vec!["a"], vec!["a", "b"], vec!["b"], vec!["a", "b"]] {
            let now = now.into_iter().map(str::to_owned).collect();
            notices.update(now, |new| told.borrow_mut().push(new.to_owned()));
        }
        assert_eq!(told.into_inner(), ["a", "b", "a"]);
    }
}
