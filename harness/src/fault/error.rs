//! Why a fault could not be put in, or not be healed.

use crate::error::Error;
use crate::eventually::EventuallyError;

/// Why a fault could not be put in, or not be healed.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// There is one of the same kind at the same place.
    #[error("{fault} at {target}: {held} is there already\nhint: heal that one first")]
    Held {
        /// The fault that was asked for.
        fault: String,
        /// Where.
        target: String,
        /// The one that is there.
        held: String,
    },
    /// It would change nothing.
    #[error("{fault} at {target} would change nothing: {why}")]
    NoEffect {
        /// The fault that was asked for.
        fault: String,
        /// Where.
        target: String,
        /// What is so already.
        why: String,
    },
    /// It cannot be asked for like that.
    #[error("{fault} at {target}: {why}")]
    Impossible {
        /// The fault that was asked for.
        fault: String,
        /// Where.
        target: String,
        /// Why not, and a hint where there is one.
        why: String,
    },
    /// The kernel, or the program that programs it, refused.
    #[error("{fault} at {target}: {why}\nhint: it needs {needs} on this kernel")]
    Refused {
        /// The fault that was asked for.
        fault: String,
        /// Where.
        target: String,
        /// What the kernel lacks if it is the kernel: `nftables`, `tbf`, `netem`.
        needs: &'static str,
        /// In the kernel's words.
        why: String,
    },
    /// The kernel took it, and it did not come about.
    #[error("a fault does not come about: {0}")]
    NoShow(#[from] EventuallyError),
    /// Some faults could not be healed; the others were.
    #[error("{}", list(.failures))]
    NotHealed {
        /// The fault with its place, and why.
        failures: Vec<(String, Error)>,
    },
}

fn list(failures: &[(String, Error)]) -> String {
    let lines: Vec<String> = failures
        .iter()
        .map(|(fault, error)| format!("cannot heal {fault}: {error}"))
        .collect();
    lines.join("\n")
}

/// A fault by its name and place, for the errors of its verb.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// As the event log tells it: `link down`.
    pub(crate) fault: String,
    /// `k8s-worker-1/eth0`.
    pub(crate) target: String,
}

impl Site {
    pub(crate) fn new(fault: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            fault: fault.into(),
            target: target.into(),
        }
    }

    pub(crate) fn held(&self, by: &Self) -> Error {
        FaultError::Held {
            fault: self.fault.clone(),
            target: self.target.clone(),
            held: by.to_string(),
        }
        .into()
    }

    pub(crate) fn no_effect(&self, why: impl Into<String>) -> Error {
        FaultError::NoEffect {
            fault: self.fault.clone(),
            target: self.target.clone(),
            why: why.into(),
        }
        .into()
    }

    pub(crate) fn impossible(&self, why: impl Into<String>) -> Error {
        FaultError::Impossible {
            fault: self.fault.clone(),
            target: self.target.clone(),
            why: why.into(),
        }
        .into()
    }

    pub(crate) fn refused(&self, needs: &'static str, why: impl Into<String>) -> Error {
        FaultError::Refused {
            fault: self.fault.clone(),
            target: self.target.clone(),
            needs,
            why: why.into(),
        }
        .into()
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.fault, self.target)
    }
}
