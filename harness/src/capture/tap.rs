//! The names of places at which packets are captured.

use std::fmt;
use std::sync::Arc;

/// A place at which packets are captured: a device of a machine. Prints as `machine/device`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tap(Arc<str>);

impl Tap {
    /// The device `device` of the machine `machine`.
    #[must_use]
    pub fn new(machine: &str, device: &str) -> Self {
        Self(format!("{machine}/{device}").into())
    }

    /// The machine's name.
    #[must_use]
    pub fn machine(&self) -> &str {
        self.0.split_once('/').map_or("", |(machine, _)| machine)
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, device)| device)
    }

    /// `machine/device`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// From `machine/device`.
impl From<&str> for Tap {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
