//! Waits on a stopped clock.

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
