//! How many tests run at a time.
//!
//! A few for each core begin at once, and more while the processors have something left to give:
//! tests that wait cost nothing, but tests that compute only take from each other what is there.
//! What the kernel waits for on their behalf then takes many times as long, and with it whatever
//! needs its lock for devices and routes: an agent may not get to add a route for seconds.

use std::fs;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When one more test than the steady ones may begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Room {
    /// How long the processors are looked at: what the last test needs shows by then.
    look: Duration,
    /// The share of that time for which they must have had nothing to do.
    idle: f64,
}

impl Room {
    pub(super) const USUAL: Self = Self {
        look: Duration::from_millis(200),
        idle: 0.25,
    };
    /// On a slow machine (a guest without hardware virtualisation) most tests compute most of the
    /// time, but those that wait for silence wait the longer the slower it is. Much has to be idle:
    /// tests that wait now may all want to compute at once a little later, and what the kernel
    /// itself waits for, such as answers to ARP, has limits that no factor stretches.
    pub(super) const SLOW: Self = Self {
        look: Duration::from_secs(2),
        idle: 0.75,
    };
}

/// Lets tests begin.
pub(super) struct Pace {
    /// So many may run whatever else the machine does.
    steady: usize,
    room: Room,
    /// The share of idle time since one call said something, once it has been looked at for long
    /// enough.
    idle: fn(&mut Look, Duration) -> Option<f64>,
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
    /// So many at once, and more while there is room.
    pub(super) fn new(steady: usize, room: Room) -> Self {
        Self::with(steady, room, Look::idle)
    }

    fn with(steady: usize, room: Room, idle: fn(&mut Look, Duration) -> Option<f64>) -> Self {
        let look = Look::begin();
        Self {
            steady,
            room,
            idle,
            state: Mutex::new(State { running: 0, look }),
            ended: Condvar::new(),
        }
    }

    /// Waits until one more test may run.
    pub(super) fn turn(&self) -> Turn<'_> {
        let mut state = self.state();
        while !self.is_free(&mut state) {
            let waited = self.ended.wait_timeout(state, self.room.look);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.running += 1;
        state.look = Look::begin();
        Turn(self)
    }

    fn is_free(&self, state: &mut State) -> bool {
        let Room { look, idle } = self.room;
        state.running < self.steady
            || (self.idle)(&mut state.look, look).is_some_and(|share| share > idle)
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
    fn idle(&mut self, long_enough: Duration) -> Option<f64> {
        if self.since.elapsed() < long_enough {
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
    fn begun(idle: fn(&mut Look, Duration) -> Option<f64>) -> usize {
        let pace = Pace::with(2, Room::SLOW, idle);
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
        assert_eq!(begun(|_, _| Some(0.8)), 3);
        assert_eq!(begun(|_, _| Some(0.7)), 2);
        assert_eq!(begun(|_, _| None), 2);
    }
}
