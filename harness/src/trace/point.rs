//! Places in a cluster where a packet can be seen.

use std::fmt;

/// A device of a machine. Prints as `machine/device`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Point {
    /// The node, pod or `fabric`.
    pub machine: String,
    /// The device.
    pub device: String,
}

impl Point {
    /// The device of the machine.
    pub fn new(machine: impl Into<String>, device: impl Into<String>) -> Self {
        Self {
            machine: machine.into(),
            device: device.into(),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.machine, self.device)
    }
}

/// The stretch of a path on which something happened: after one place, before the next.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Stretch {
    /// Where the packet was last seen as it should be; `None` when it never was.
    pub after: Option<Point>,
    /// Where it should have been seen next; `None` behind the last place.
    pub before: Option<Point>,
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.after, &self.before) {
            (Some(after), Some(before)) if after == before => {
                write!(f, "in {} behind its {}", after.machine, after.device)
            }
            (Some(after), Some(before)) => write!(f, "between {after} and {before}"),
            (Some(after), None) => write!(f, "behind {after}"),
            (None, Some(before)) => write!(f, "before {before}"),
            (None, None) => f.write_str("nowhere"),
        }
    }
}
