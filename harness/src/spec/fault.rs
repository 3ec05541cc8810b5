//! What is wrong with a specification, all of it at once.

use std::fmt;

/// A specification that cannot be booted. Lists every fault that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// The faults, in the order of the specification; never empty.
    pub faults: Vec<SpecFault>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecFault {
    /// The thing that is at fault, `pod "web"`.
    pub subject: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl SpecError {
    /// An error of one fault.
    pub(crate) fn one(
        subject: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            faults: vec![SpecFault {
                subject: subject.into(),
                message: message.into(),
                hint: hint.into(),
            }],
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let plural = if count == 1 { "fault" } else { "faults" };
        write!(f, "the cluster's specification has {count} {plural}:")?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecError {}

impl fmt::Display for SpecFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\n    hint: {}",
            self.subject, self.message, self.hint
        )
    }
}

/// Collects faults about one subject after the other.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<SpecFault>);

impl Faults {
    pub(super) fn add(
        &mut self,
        subject: impl fmt::Display,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.0.push(SpecFault {
            subject: subject.to_string(),
            message: message.into(),
            hint: hint.into(),
        });
    }
}

/// Joins names for a message; says so when there are none.
pub(super) fn listed<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
