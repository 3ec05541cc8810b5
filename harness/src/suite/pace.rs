//! How many tests run at a time.
//!
//! On a usual machine tests mostly wait, and there are so many for each core. On a slow one (a
//! guest without hardware virtualisation) most of them compute most of the time, and too many
//! would be late for what they wait for; but those that wait for silence wait the longer the slower
//! the machine is. There a few begin at once, and more while the processors have nothing to do.

use std::fs;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the processors are looked at before one more test begins: what the last one needs
/// shows by then.
const LOOK: Duration = Duration::from_secs(2);
/// The share of their time for which they must have had nothing to do. Much: tests that wait now
/// may all want to compute at once a little later, and what the kernel itself waits for on their
/// behalf, such as answers to ARP, has limits that no factor stretches.
const IDLE: f64 = 0.75;

/// Lets tests begin.
pub(super) struct Pace {
    /// So many may run whatever else the machine does.
    steady: usize,
    /// The share of idle time since one call said something, once it has been looked at for long
    /// enough.
    idle: fn(&mut Look) -> Option<f64>,
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    running: usize,
    look: Look,
}

/// The processors' times when somebody began to look.
pub(super) struct Look {
    since: Instant,
    times: Option<Times>,
}

/// In ticks, of all processors together, since the machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    idle: u64,
    all: u64,
}

/// A test that runs.
pub(super) struct Turn<'a>(&'a Pace);

impl Pace {
    /// So many at once, and more while there is nothing to do.
    pub(super) fn new(steady: usize) -> Self {
        Self::with(steady, Look::idle)
    }

    fn with(steady: usize, idle: fn(&mut Look) -> Option<f64>) -> Self {
        let look = Look::begin();
        Self {
            steady,
            idle,
            state: Mutex::new(State { running: 0, look }),
            ended: Condvar::new(),
        }
    }

    /// Waits until one more test may run.
    pub(super) fn turn(&self) -> Turn<'_> {
        let mut state = self.state();
        while !self.is_free(&mut state) {
            let waited = self.ended.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.running += 1;
        state.look = Look::begin();
        Turn(self)
    }

    fn is_free(&self, state: &mut State) -> bool {
        state.running < self.steady || (self.idle)(&mut state.look).is_some_and(|idle| idle > IDLE)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between any two calls, also when a thread has panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
        self.0.ended.notify_one();
    }
}

impl Look {
    fn begin() -> Self {
        let stat = fs::read_to_string("/proc/stat");
        Self {
            since: Instant::now(),
            times: stat.ok().and_then(|text| Times::parse(&text)),
        }
    }

    /// See [`Pace::idle`].
    fn idle(&mut self) -> Option<f64> {
        if self.since.elapsed() < LOOK {
            return None;
        }
        let before = std::mem::replace(self, Self::begin());
        Some(self.times?.idle_since(before.times?))
    }
}

impl Times {
    /// The first line of `/proc/stat`: `cpu` and, in this order, the times of user, nice, system,
    /// idle, iowait, irq, softirq and steal; what follows is contained in the first two.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let times = line.split_whitespace().take(8).map(str::parse);
        let times: Vec<u64> = times.collect::<Result<_, _>>().ok()?;
        Some(Self {
            idle: times.get(3)? + times.get(4)?,
            all: times.iter().sum(),
        })
    }

    fn idle_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.idle.saturating_sub(before.idle) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn idle_time_is_a_share_of_all_processors() {
        let before = Times::parse("cpu  10 0 10 100 0 0 0 0 7 7\ncpu0 1 2 3").unwrap();
        let now = Times::parse("cpu  20 0 20 130 10 0 10 10 9 9\n").unwrap();
        assert_eq!((before.idle, before.all), (100, 120));
        assert_eq!(now.idle_since(before), 0.5);
        assert_eq!(now.idle_since(now), 0.0);
        assert_eq!(Times::parse("cpu  1 2 3 x"), None);
        assert_eq!(Times::parse(""), None);
    }

    /// How many of three tests begin while none ends.
    fn begun(idle: fn(&mut Look) -> Option<f64>) -> usize {
        let pace = Pace::with(2, idle);
        let (begins, begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let ends = Mutex::new(ends);
        thread::scope(|scope| {
            for _ in 0..3 {
                let begins = begins.clone();
                scope.spawn(|| {
                    let _turn = pace.turn();
                    let begins = begins;
                    begins.send(()).unwrap();
                    let ends = ends.lock().unwrap();
                    ends.recv().unwrap();
                });
            }
            let patience = Duration::from_millis(200);
            let count = (0..3)
                .filter(|_| begun.recv_timeout(patience).is_ok())
                .count();
            for _ in 0..3 {
                end.send(()).unwrap();
            }
            count
        })
    }

    #[test]
    fn more_than_the_steady_ones_begin_only_on_an_idle_machine() {
        assert_eq!(begun(|_| Some(0.8)), 3);
        assert_eq!(begun(|_| Some(0.7)), 2);
        assert_eq!(begun(|_| None), 2);
    }
}
