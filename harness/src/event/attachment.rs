//! What is too large for an event: the last result of its kind, for the report of a failed test.

use serde::Serialize;
use serde_json::Value;

/// A result that a log keeps beside its events.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attachment {
    /// Which result: `matrix`, `timeline`. A log keeps the last one of each.
    pub name: String,
    /// As it is printed.
    pub text: String,
    /// As it is serialised.
    pub value: Value,
}

impl Attachment {
    /// A result as it is printed and serialised.
    pub fn new(name: &str, result: &(impl std::fmt::Display + Serialize)) -> Self {
        Self {
            name: name.to_owned(),
            text: result.to_string(),
            // What cannot be serialised can still be read.
            value: serde_json::to_value(result).unwrap_or_default(),
        }
    }
}
