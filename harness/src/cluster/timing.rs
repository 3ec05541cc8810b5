//! Where the time of a boot went.

use std::fmt;
use std::time::{Duration, Instant};

/// The phases of a boot, one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BootReport {
    /// Making the namespaces and the mounts of all machines, and the servers of the pods.
    pub namespaces: Duration,
    /// Making links, addresses and the first routes, and writing the datastore.
    pub links: Duration,
    /// Starting the processes of the agents.
    pub agents: Duration,
    /// Waiting until every agent had its first full sync in the kernel.
    pub ready: Duration,
}

impl BootReport {
    /// The whole time.
    pub fn total(&self) -> Duration {
        self.namespaces + self.links + self.agents + self.ready
    }
}

impl fmt::Display for BootReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1000.0);
        write!(
            f,
            "{} (namespaces {}, links {}, agents started {}, ready {})",
            ms(self.total()),
            ms(self.namespaces),
            ms(self.links),
            ms(self.agents),
            ms(self.ready)
        )
    }
}

/// Measures one phase after the other.
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start or the last lap.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_every_phase_and_their_sum() {
        let report = BootReport {
            namespaces: Duration::from_micros(1500),
            links: Duration::from_millis(2),
            agents: Duration::from_millis(3),
            ready: Duration::from_millis(4),
        };
        assert_eq!(
            report.to_string(),
            "10.5 ms (namespaces 1.5 ms, links 2.0 ms, agents started 3.0 ms, ready 4.0 ms)"
        );
    }
}
