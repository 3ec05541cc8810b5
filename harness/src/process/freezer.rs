//! Processes that are stopped, and go on as if nothing had been.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::reaper::processes_in;
use crate::eventually::{EventuallyError, eventually};

/// How long a process may take to stop: one that waits for a disk stops when the disk answers.
const STOP: Duration = Duration::from_secs(5);

/// Who has stopped what in a cluster. A process that two have stopped, a pod's by its pod and by its
/// node, goes on when both have let go. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Freezer(Arc<Mutex<BTreeMap<Process, usize>>>);

/// Processes that were stopped. Those that somebody outside of the freezer had stopped before are
/// not among them, and stay so.
#[derive(Debug)]
pub(crate) struct Frozen {
    freezer: Freezer,
    processes: Mutex<BTreeSet<Process>>,
    ran: usize,
}

/// A process of which there is one: numbers are used again, with another start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    id: Pid,
    /// In ticks since the kernel's boot.
    started: u64,
}

impl Freezer {
    /// Stops every process in these network namespaces. One that is stopped cannot start others,
    /// so that all of them are found.
    pub(crate) async fn all_in(
        &self,
        net_inodes: &BTreeSet<u64>,
    ) -> Result<Frozen, EventuallyError> {
        self.all(|| processes_in(net_inodes)).await
    }

    /// Stops one process.
    pub(crate) async fn one(&self, id: u32) -> Result<Frozen, EventuallyError> {
        self.all(|| vec![Pid::from_raw(id.cast_signed())]).await
    }

    async fn all(&self, list: impl Fn() -> Vec<Pid>) -> Result<Frozen, EventuallyError> {
        let mut stopped = BTreeSet::new();
        let mut held = BTreeSet::new();
        let all = eventually("every process is stopped", STOP, || {
            let mut running = Vec::new();
            for id in list() {
                // Nobody lets go of a process between the look and the hold.
                let mut holds = self.holds();
                let Some((state, started)) = look(id) else {
                    continue;
                };
                let process = Process { id, started };
                if matches!(state, 'T' | 't' | 'Z' | 'X') {
                    if let Some(holds) = holds.get_mut(&process)
                        && !stopped.contains(&process)
                        && held.insert(process)
                    {
                        *holds += 1;
                    }
                    continue;
                }
                running.push(id);
                if !held.contains(&process) && stopped.insert(process) {
                    *holds.entry(process).or_default() += 1;
                }
                // One that has ended by now is stopped enough.
                kill(id, Signal::SIGSTOP).ok();
            }
            async move {
                match running.is_empty() {
                    true => Ok(()),
                    false => Err(format!("{running:?} run")),
                }
            }
        });
        let all = all.await;
        let ran = stopped.len();
        stopped.append(&mut held);
        let frozen = Frozen {
            freezer: self.clone(),
            processes: Mutex::new(stopped),
            ran,
        };
        if all.is_err() {
            frozen.thaw();
        }
        all.map(|()| frozen)
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<Process, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frozen {
    /// Lets them go on that nobody else holds; those that have ended meanwhile have ended.
    pub(crate) fn thaw(&self) {
        let processes = self.processes.lock();
        let processes = std::mem::take(&mut *processes.unwrap_or_else(PoisonError::into_inner));
        let mut holds = self.freezer.holds();
        for process in processes {
            if let Some(others) = holds.get_mut(&process).filter(|holds| **holds > 1) {
                *others -= 1;
                continue;
            }
            holds.remove(&process);
            let now = look(process.id);
            if now.is_some_and(|(_, started)| started == process.started) {
                kill(process.id, Signal::SIGCONT).ok();
            }
        }
    }

    /// How many of them ran before.
    pub(crate) fn ran(&self) -> usize {
        self.ran
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

    fn sleeper() -> (std::process::Child, Pid) {
        let mut sleep = std::process::Command::new("sleep");
        let child = sleep.arg("60").spawn().unwrap();
        let id = Pid::from_raw(child.id().cast_signed());
        (child, id)
    }

    async fn runs(id: Pid) {
        let running = eventually("it runs", STOP, || async {
            match look(id).map(|(state, _)| state) {
                Some('T') | None => Err("not yet"),
                Some(_) => Ok(()),
            }
        });
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_process_stops_and_goes_on() {
        let (mut child, id) = sleeper();
        let freezer = Freezer::default();
        let frozen = freezer.one(child.id()).await.unwrap();
        assert_eq!((frozen.ran(), look(id).unwrap().0), (1, 'T'));
        frozen.thaw();
        runs(id).await;
        // Who was stopped by others before is somebody else's.
        kill(id, Signal::SIGSTOP).unwrap();
        eventually("it is stopped", STOP, || async {
            (look(id).unwrap().0 == 'T').then_some(()).ok_or("it runs")
        })
        .await
        .unwrap();
        let nothing = freezer.one(child.id()).await.unwrap();
        assert_eq!(nothing.ran(), 0);
        nothing.thaw();
        assert_eq!(look(id).unwrap().0, 'T');
        child.kill().unwrap();
        child.wait().unwrap();
        frozen.thaw();
    }

    #[tokio::test]
    async fn a_process_that_two_hold_goes_on_when_both_let_go() {
        let (mut child, id) = sleeper();
        let freezer = Freezer::default();
        for first_goes_first in [true, false] {
            let one = freezer.one(child.id()).await.unwrap();
            let two = freezer.one(child.id()).await.unwrap();
            assert_eq!((one.ran(), two.ran()), (1, 0));
            let (early, late) = match first_goes_first {
                true => (one, two),
                false => (two, one),
            };
            early.thaw();
            early.thaw();
            assert_eq!(look(id).unwrap().0, 'T');
            late.thaw();
            runs(id).await;
        }
        assert!(freezer.holds().is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
