//! Processes that are stopped, and go on as if nothing had been.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::reaper::processes_in;
use crate::eventually::{EventuallyError, eventually};

/// How long a process may take to stop: one that waits for a disk stops when the disk answers.
const STOP: Duration = Duration::from_secs(5);

/// Processes that were stopped. Those that were stopped before are not among them.
#[derive(Debug, Default)]
pub(crate) struct Frozen(BTreeSet<Process>);

/// A process of which there is one: numbers are used again, with another start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    id: Pid,
    /// In ticks since the kernel's boot.
    started: u64,
}

impl Frozen {
    /// Stops every process in these network namespaces. One that is stopped cannot start others,
    /// so that all of them are found.
    pub(crate) async fn all_in(net_inodes: &BTreeSet<u64>) -> Result<Self, EventuallyError> {
        Self::all(|| processes_in(net_inodes)).await
    }

    /// Stops one process.
    pub(crate) async fn one(id: u32) -> Result<Self, EventuallyError> {
        Self::all(|| vec![Pid::from_raw(id.cast_signed())]).await
    }

    async fn all(list: impl Fn() -> Vec<Pid>) -> Result<Self, EventuallyError> {
        let mut frozen = Self::default();
        let stopped = eventually("every process is stopped", STOP, || {
            let mut running = Vec::new();
            for id in list() {
                let Some((state, started)) = look(id) else {
                    continue;
                };
                if !matches!(state, 'T' | 't' | 'Z' | 'X') {
                    running.push(id);
                    frozen.0.insert(Process { id, started });
                    // One that has ended by now is stopped enough.
                    kill(id, Signal::SIGSTOP).ok();
                }
            }
            async move {
                match running.is_empty() {
                    true => Ok(()),
                    false => Err(format!("{running:?} run")),
                }
            }
        });
        match stopped.await {
            Ok(()) => Ok(frozen),
            Err(error) => {
                frozen.thaw();
                Err(error)
            }
        }
    }

    /// Lets them go on; those that have ended meanwhile have ended.
    pub(crate) fn thaw(&self) {
        for process in &self.0 {
            let now = look(process.id);
            if now.is_some_and(|(_, started)| started == process.started) {
                kill(process.id, Signal::SIGCONT).ok();
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// State and start of a process, proc_pid_stat(5); `None` when there is none.
fn look(id: Pid) -> Option<(char, u64)> {
    parse(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<(char, u64)> {
    // The name stands in parentheses and may have some of its own.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_mislead() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!(parse(stat), Some(('S', 4711)));
        assert_eq!(parse("7 (x) S 1"), None);
    }

    #[tokio::test]
    async fn a_process_stops_and_goes_on() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = Pid::from_raw(child.id().cast_signed());
        let frozen = Frozen::one(child.id()).await.unwrap();
        assert_eq!((frozen.count(), look(id).unwrap().0), (1, 'T'));
        // Who was stopped before is somebody else's.
        assert_eq!(Frozen::one(child.id()).await.unwrap().count(), 0);
        frozen.thaw();
        let running = eventually("it runs", STOP, || async {
            match look(id).map(|(state, _)| state) {
                Some('T') | None => Err("not yet"),
                Some(_) => Ok(()),
            }
        });
        running.await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        frozen.thaw();
    }
}
