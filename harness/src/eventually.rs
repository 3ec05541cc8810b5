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
/// [`patience`] factor). Short for [`Eventually::until`].
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
mod tests;
