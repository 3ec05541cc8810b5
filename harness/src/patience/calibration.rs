//! How slow this machine is: a fixed piece of work against the time that it takes where the
//! limits in the code were chosen.

use std::io::{Read, Write, pipe};
use std::thread;
use std::time::{Duration, Instant};

/// What [`work`] takes on an idle machine of 2026 with hardware virtualisation.
const REFERENCE: Duration = Duration::from_millis(3);
/// No machine is given more: a limit that never ends is none.
const MOST: f64 = 20.0;
/// How often the work is done; the fastest counts, since only disturbances make it slower.
const ATTEMPTS: usize = 9;
const THREADS: usize = 20;
const ROUND_TRIPS: usize = 150;

/// The factor by which this machine is slower than the reference: 1 to 20.
pub(super) fn factor() -> f64 {
    let fastest = (0..ATTEMPTS).map(|_| time(work)).min();
    slower(fastest.unwrap_or(REFERENCE))
}

fn slower(took: Duration) -> f64 {
    (took.as_secs_f64() / REFERENCE.as_secs_f64()).clamp(1.0, MOST)
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// What scenarios spend their time on, and next to nothing that an optimising compiler would make
/// faster: threads that begin and end, and threads that wait for each other in the kernel.
fn work() {
    for _ in 0..THREADS {
        // One that cannot be started took its time, too.
        drop(thread::Builder::new().spawn(|| {}).map(|t| t.join()));
    }
    let (Ok((mut far_in, mut out)), Ok((mut back, mut far_out))) = (pipe(), pipe()) else {
        return;
    };
    let far = thread::Builder::new().spawn(move || {
        let mut byte = [0];
        while far_in.read_exact(&mut byte).is_ok() && far_out.write_all(&byte).is_ok() {}
    });
    if let Ok(far) = far {
        let mut byte = [0];
        for _ in 0..ROUND_TRIPS {
            if out.write_all(&byte).is_err() || back.read_exact(&mut byte).is_err() {
                break;
            }
        }
        drop(out);
        drop(far.join());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_takes_longer_is_slower_and_none_is_faster() {
        assert_eq!(slower(REFERENCE * 8), 8.0);
        assert_eq!(slower(REFERENCE / 8), 1.0);
        assert_eq!(slower(REFERENCE * 1000), MOST);
        assert!(factor() >= 1.0);
    }
}
