//! The one way to wait for something that no event announces.
//!
//! A check is asked again and again until it says yes or its time is up. It is for states of
//! the kernel and of other programs; what announces itself (a process that is ready, a socket
//! that is readable) is awaited directly.
//!
//! ```
//! # use podlab::eventually::eventually;
//! # use std::time::Duration;
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let mut routes = 0;
//! let found = eventually("three routes are in place", Duration::from_secs(5), || {
//!     routes += 1; // a real check reads the routes of a node
//!     let seen = routes;
//!     async move { if seen < 3 { Err(format!("{seen} routes")) } else { Ok(seen) } }
//! })
//! .await?;
//! assert_eq!(found, 3);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use crate::patience::{self, PatienceError};
use std::fmt::{self, Display};
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Pause after the first attempt; a kernel change is usually visible by then.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// Pauses grow to this and no further: it bounds how late a success is noticed.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Waits until `check` returns `Ok`, for at most `deadline` (stretched by the
/// [patience](crate::patience) factor). Short for [`Eventually::until`].
///
/// # Errors
/// As [`Eventually::until`].
pub async fn eventually<F, T, E>(
    what: impl Into<String>,
    deadline: Duration,
    check: impl FnMut() -> F,
) -> Result<T, EventuallyError>
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    Eventually::new(what, deadline).until(check).await
}

/// A wait that can be told more than [`eventually`] takes.
#[derive(Debug, Clone)]
#[must_use = "nothing is awaited before `until`"]
pub struct Eventually {
    what: String,
    deadline: Duration,
    samples: NonZeroU32,
}

impl Eventually {
    /// A wait for `what` (a statement, "the route is there") of at most `deadline`.
    pub fn new(what: impl Into<String>, deadline: Duration) -> Self {
        Self {
            what: what.into(),
            deadline,
            samples: NonZeroU32::MIN,
        }
    }

    /// Asks for `samples` good answers in a row instead of one: for states that may flap.
    pub fn stable_for(mut self, samples: NonZeroU32) -> Self {
        self.samples = samples;
        self
    }

    /// Asks `check` until it answered `Ok` as often in a row as wanted, and returns its last
    /// value. The pauses between attempts grow from 1 ms to 50 ms; the last attempt is made
    /// at the deadline. A check that hangs is given up at the deadline.
    ///
    /// # Errors
    /// [`EventuallyError::TimedOut`] with the last thing seen, [`EventuallyError::Patience`]
    /// when the patience factor in the environment is no number.
    // Not an `AsyncFnMut`: the compiler cannot show that its futures are `Send`, so a wait
    // could not be spawned.
    pub async fn until<F, T, E>(self, mut check: impl FnMut() -> F) -> Result<T, EventuallyError>
    where
        F: Future<Output = Result<T, E>>,
        E: Display,
    {
        let deadline = patience::scaled(self.deadline)?;
        let start = Instant::now();
        // An overflow means "as good as for ever".
        let end = start
            .checked_add(deadline)
            .unwrap_or_else(|| start + Duration::from_secs(86_400 * 365));
        let mut pause = FIRST_PAUSE;
        let mut seen = Seen::default();
        loop {
            let last_attempt = Instant::now() >= end;
            seen.attempts += 1;
            match timeout_at(end, check()).await {
                Ok(Ok(value)) => {
                    seen.good_in_a_row += 1;
                    if seen.good_in_a_row >= self.samples.get() {
                        return Ok(value);
                    }
                }
                Ok(Err(error)) => {
                    seen.good_in_a_row = 0;
                    seen.last_error = Some(error.to_string());
                }
                Err(_) => seen.hung = true,
            }
            if last_attempt || seen.hung {
                return Err(EventuallyError::TimedOut {
                    what: self.what,
                    deadline,
                    wanted_in_a_row: self.samples.get(),
                    seen,
                });
            }
            sleep_until(end.min(Instant::now() + pause)).await;
            pause = LONGEST_PAUSE.min(pause.mul_f64(1.5));
        }
    }
}

/// What a wait that timed out had seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// How often the check was asked.
    pub attempts: u32,
    /// Good answers in a row at the end; below the number that was wanted.
    pub good_in_a_row: u32,
    /// The last error that the check returned, if it ever returned one.
    pub last_error: Option<String>,
    /// The last attempt had not answered when the time was up.
    pub hung: bool,
}

impl Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(f, "{} attempt{plural}", self.attempts)?;
        if self.hung {
            write!(f, ", the last of which never answered")?;
        }
        match &self.last_error {
            Some(error) => write!(f, ", last error: {error}"),
            None => Ok(()),
        }
    }
}

/// Why a wait ended without what it waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventuallyError {
    /// The time was up.
    #[error("{}", timed_out(what, *deadline, *wanted_in_a_row, seen))]
    TimedOut {
        /// The statement that did not come true.
        what: String,
        /// The time limit, patience included.
        deadline: Duration,
        /// Good answers in a row that were asked for.
        wanted_in_a_row: u32,
        /// What was seen instead.
        seen: Seen,
    },
    /// The patience factor is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
}

fn timed_out(what: &str, deadline: Duration, wanted: u32, seen: &Seen) -> String {
    let run = match wanted {
        1 => String::new(),
        _ => format!("good {} of {wanted} times in a row, ", seen.good_in_a_row),
    };
    format!("waited {deadline:?} for: {what}; {run}{seen}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::future::{pending, ready};

    const SECOND: Duration = Duration::from_secs(1);

    /// The limit as a run with a patience factor has it.
    fn scaled(limit: Duration) -> Duration {
        patience::scaled(limit).unwrap()
    }

    fn samples(k: u32) -> NonZeroU32 {
        NonZeroU32::new(k).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_holds_at_once_costs_no_time() {
        let start = Instant::now();
        let value = eventually("yes", SECOND, || ready(Ok::<_, Infallible>(7))).await;
        assert_eq!(value, Ok(7));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_soon_and_then_less_often() {
        let start = Instant::now();
        let mut asked = Vec::new();
        eventually("never", SECOND, || {
            asked.push(start.elapsed());
            ready(Err::<(), _>("no"))
        })
        .await
        .unwrap_err();
        let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The clock of the runtime ticks in milliseconds.
        assert!(pauses[0] <= Duration::from_millis(2), "{pauses:?}");
        let (last, grown) = pauses.split_last().unwrap();
        assert!(grown.is_sorted(), "{pauses:?}");
        assert!(grown.contains(&LONGEST_PAUSE), "{pauses:?}");
        assert!(*last <= LONGEST_PAUSE, "{pauses:?}");
        assert_eq!(*asked.last().unwrap(), scaled(SECOND));
    }

    /// Without it a success within the last pause would be reported as a failure.
    #[tokio::test(start_paused = true)]
    async fn the_last_attempt_is_made_at_the_deadline() {
        let start = Instant::now();
        let value = eventually("late", SECOND, || {
            let come = start.elapsed() >= scaled(SECOND);
            ready(come.then_some(()).ok_or("not yet"))
        });
        assert_eq!(value.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_out_tells_what_was_seen_last() {
        let mut attempts = 0;
        let limit = Duration::from_millis(3);
        let error = eventually("the routes are there", limit, || {
            attempts += 1;
            ready(Err::<(), _>(format!("{attempts} of 9 routes")))
        })
        .await
        .unwrap_err();
        assert!(attempts >= 2);
        assert_eq!(
            error.to_string(),
            format!(
                "waited {:?} for: the routes are there; \
                 {attempts} attempts, last error: {attempts} of 9 routes",
                scaled(limit)
            )
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_given_up_at_the_deadline() {
        let start = Instant::now();
        let mut attempts = 0;
        let error = eventually("an answer", SECOND, || {
            attempts += 1;
            let first = attempts == 1;
            async move {
                if first {
                    return Err("busy");
                }
                pending::<Result<(), _>>().await
            }
        })
        .await
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "waited {:?} for: an answer; \
                 2 attempts, the last of which never answered, last error: busy",
                scaled(SECOND)
            )
        );
        assert_eq!(start.elapsed(), scaled(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn stable_means_in_a_row() {
        let mut answers = [true, true, false, true, true, true, false].into_iter();
        Eventually::new("steady", SECOND)
            .stable_for(samples(3))
            .until(|| ready(answers.next().filter(|good| *good).ok_or("flapped")))
            .await
            .unwrap();
        assert_eq!(answers.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_flaps_is_reported_as_such() {
        let mut good = false;
        let error = Eventually::new("steady", Duration::ZERO)
            .stable_for(samples(2))
            .until(|| {
                good = !good;
                ready(good.then_some(()).ok_or("flapped"))
            })
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "waited 0ns for: steady; good 1 of 2 times in a row, 1 attempt"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_without_end_is_allowed() {
        let value = eventually("yes", Duration::MAX, || ready(Ok::<_, Infallible>(1))).await;
        assert_eq!(value, Ok(1));
    }

    /// Callers wait in spawned tasks; a future that is not `Send` would not compile there.
    #[tokio::test(start_paused = true)]
    async fn a_wait_can_be_spawned() {
        let name = String::from("k8s-worker-1");
        let task = tokio::spawn(async move {
            eventually("spawned", SECOND, || async {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(name.len())
            })
            .await
        });
        assert_eq!(task.await.unwrap(), Ok(12));
    }
}
