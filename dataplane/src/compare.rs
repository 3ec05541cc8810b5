//! Desired and actual state side by side.

use std::collections::BTreeSet;

/// One object, as it shall be and as it is; `None` where it shall not be or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub desired: Option<String>,
    pub actual: Option<String>,
}

impl Row {
    pub(crate) fn differs(&self) -> bool {
        self.desired != self.actual
    }
}

/// A row for each object that is in one of the sets or in both.
pub(crate) fn rows(desired: &BTreeSet<String>, actual: &BTreeSet<String>) -> Vec<Row> {
    let side = |set: &BTreeSet<String>, object: &String| set.get(object).cloned();
    let row = |object| Row {
        desired: side(desired, object),
        actual: side(actual, object),
    };
    desired.union(actual).map(row).collect()
}
