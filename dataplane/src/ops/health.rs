//! Whether the loop turns (live), and whether the kernel holds what it should (ready).
//!
//! The loop says before every wait when it will be back at the latest, and that it is back
//! when something wakes it. One that is overdue is stuck, be it in a pass, in a log that nobody
//! reads, or because a timer was lost. That needs no heartbeat: an idle agent stays idle.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a turn of the loop may take, or a timer be late. Reading and writing a thousand
/// nodes' routes takes a few tenths of a second.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// The answer to a probe: yes, or the reason why not.
pub(crate) type Answer = Result<(), String>;

/// See the module. Times are passed in, so that tests need not wait.
#[derive(Debug)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the loop does its next step at the latest.
    back: Instant,
    /// What the last pass left undone.
    complete: Answer,
}

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(State {
            back: Instant::now(),
            complete: Err("the first full sync is not applied yet".to_owned()),
        }))
    }
}

impl Health {
    /// The loop has done a step and does the next one by `back`.
    pub(crate) fn turn(&self, back: Instant) {
        self.state().back = back;
    }

    /// What a pass has left undone.
    pub(crate) fn passed(&self, complete: Answer) {
        self.state().complete = complete;
    }

    /// Whether the loop turns.
    pub(crate) fn live(&self, now: Instant) -> Answer {
        let late = now.saturating_duration_since(self.state().back);
        if late <= GRACE {
            return Ok(());
        }
        Err(format!(
            "the agent's loop is overdue by {}s",
            late.as_secs()
        ))
    }

    /// Whether the last pass has left nothing undone, and the loop still turns.
    pub(crate) fn ready(&self, now: Instant) -> Answer {
        self.live(now)?;
        self.state().complete.clone()
    }

    /// The lock is held for an assignment or a copy, never while the kernel is asked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_agent_is_live_from_the_start_and_ready_after_a_complete_pass() {
        let health = Health::default();
        let now = Instant::now();
        health.turn(now);
        assert_eq!(health.live(now), Ok(()));
        assert!(health.ready(now).unwrap_err().contains("first full sync"));
        health.passed(Ok(()));
        assert_eq!(health.ready(now), Ok(()));
        health.passed(Err("the kernel refused".to_owned()));
        assert_eq!(health.ready(now).unwrap_err(), "the kernel refused");
        assert_eq!(health.live(now), Ok(()), "it still tries");
    }

    #[test]
    fn a_loop_that_is_overdue_is_neither_live_nor_ready_until_it_turns_again() {
        let health = Health::default();
        let now = Instant::now();
        health.passed(Ok(()));
        // It waits for events, and for a minute and a half at most.
        health.turn(now + 90 * SECOND);
        assert_eq!(health.ready(now + 100 * SECOND), Ok(()));
        let late = now + 101 * SECOND;
        assert_eq!(
            health.live(late).unwrap_err(),
            "the agent's loop is overdue by 11s"
        );
        assert_eq!(health.ready(late), health.live(late));
        health.turn(late);
        assert_eq!(health.ready(late), Ok(()));
    }

    #[test]
    fn a_turn_that_takes_too_long_is_overdue() {
        let health = Health::default();
        let begin = Instant::now();
        health.turn(begin);
        assert_eq!(health.live(begin + GRACE), Ok(()));
        assert!(health.live(begin + GRACE + SECOND).is_err());
    }
}
