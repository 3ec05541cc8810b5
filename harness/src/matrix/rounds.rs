//! Asking everything at once, again and again until it is as expected.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ask::{Sockets, Target};
use super::expectation::Failed;
use super::servers::Servers;
use super::{Actual, Check, Expectation, Matrix, Peer, Probe};
use crate::error::Error;
use crate::event::{EventLog, Kind, Protocol};
use crate::eventually::Eventually;
use crate::probe::Failure;

/// Probes that are under way at the same time. The process has to serve them all, and what waits
/// for the processor is not to be taken for a slow network.
const UNDER_WAY: usize = 32;

/// What the probes that are under way have to carry together, in KiB. A large probe is a burst of
/// fragments, and losing one of them loses it: many at once would overflow the queue of a device
/// (500 packets for TUN) or the receive buffer of a socket, which is not what a matrix asks for.
/// That buffer has 208 KiB, in which a full fragment counts for more than 2 KiB.
const KIBIBYTES: u32 = 64;

/// When a probe is no longer one that is under way, but one that waits for an answer which may
/// never come.
const WAITS: Duration = Duration::from_millis(50);

/// A timer that is later than this tells that the process has more to do than it can: then a probe
/// is waiting for the process, not for the network.
const BUSY: Duration = Duration::from_millis(10);

/// Everything that is asked and expected.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) events: EventLog,
    pub(super) from: Vec<Peer>,
    pub(super) to: Vec<Peer>,
    pub(super) probes: Vec<Probe>,
    pub(super) checks: Vec<Planned>,
    pub(super) deadline: Duration,
    pub(super) answer: Duration,
    /// Rounds in a row.
    pub(super) wanted: NonZeroU32,
}

/// One question, and what is expected of it.
#[derive(Debug)]
pub(super) struct Planned {
    /// Place among the sources.
    pub(super) from: usize,
    /// Place among the targets.
    pub(super) to: usize,
    pub(super) probe: Probe,
    pub(super) expected: Expectation,
}

/// The probes of a question, or of a control.
struct Job<'a> {
    from: &'a Peer,
    target: Target,
    probe: Probe,
    count: u32,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Purpose {
    /// The check at this place.
    Check(usize),
    /// Whether the target at this place answers itself.
    Control(usize, Probe),
}

/// Asks until all is as expected or the time is up.
pub(super) async fn run(plan: Plan) -> Result<Matrix, Error> {
    let start = Instant::now();
    let servers = plan.to.iter().map(|target| {
        let servers = Servers::start(target, &plan.probes)?;
        Ok(Arc::new(servers))
    });
    let servers = servers.collect::<Result<Vec<_>, Error>>()?;
    let state = Mutex::new(State::new(&plan));
    // Whatever the deadline: with no round at all there would be nothing to show.
    let first = plan.round(&servers, &state).await;
    let fatal = Mutex::new(None);
    // Seen by the first attempt below: it was a round like any other.
    let first = Mutex::new(Some(first));
    let rounds = Eventually::new("the matrix is as expected", plan.deadline)
        .stable_for(plan.wanted)
        .until(|| async {
            // No `if let`: a guard must not live across the await.
            let before = lock(&first).take();
            let round = match before {
                Some(round) => round,
                None if lock(&fatal).is_some() => return Ok(()),
                None => plan.round(&servers, &state).await,
            };
            match round {
                Ok(0) => Ok(()),
                Ok(wrong) => Err(format!("{wrong} of {} wrong", plan.checks.len())),
                // It will not be better in the next round: ends the wait.
                Err(error) => {
                    *lock(&fatal) = Some(error);
                    Ok(())
                }
            }
        })
        .await;
    drop(servers);
    if let Some(error) = fatal.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match rounds {
        Ok(()) => Ok(state.into_matrix(plan, true, start.elapsed())),
        Err(crate::eventually::EventuallyError::Patience(error)) => Err(error.into()),
        Err(_) => Ok(state.into_matrix(plan, false, start.elapsed())),
    }
}

impl Plan {
    /// Asks everything once, and returns how many answers were wrong.
    async fn round(&self, servers: &[Arc<Servers>], state: &Mutex<State>) -> Result<usize, Error> {
        let start = Instant::now();
        let mut jobs = self.jobs(servers);
        let mut actuals = vec![Actual::default(); self.checks.len()];
        let mut controls = HashMap::new();
        while !jobs.is_empty() {
            let later = jobs.split_off(chunk(&jobs));
            let now = std::mem::replace(&mut jobs, later);
            for (purpose, actual) in ask(now, self.answer).await? {
                match purpose {
                    Purpose::Check(place) => actuals[place] = actual,
                    Purpose::Control(target, probe) => {
                        let failed = actual.failures.into_iter().next();
                        controls.insert((target, probe), failed.map(|failed| failed.error));
                    }
                }
            }
        }
        for (check, actual) in self.checks.iter().zip(&mut actuals) {
            if !check.expected.is_reachable() {
                actual.control = controls.get(&(check.to, check.probe)).cloned().flatten();
            }
        }
        let mut state = lock(state);
        let wrong = state.record(self, actuals);
        self.events.record(Kind::MatrixRound {
            round: state.rounds,
            questions: self.checks.len(),
            wrong,
            after: start.elapsed(),
        });
        Ok(wrong)
    }

    /// Every question, and for the targets that someone shall not reach, whether they reach
    /// themselves.
    fn jobs(&self, servers: &[Arc<Servers>]) -> Vec<Job<'_>> {
        let target = |place: usize, probe: Probe| {
            let (peer, servers) = (&self.to[place], &servers[place]);
            let (address, path) = servers.address(peer, probe)?;
            Some(Target {
                address,
                path,
                ours: servers.is_ours(probe),
                servers: Arc::clone(servers),
            })
        };
        let mut controlled = Vec::new();
        let mut jobs = Vec::new();
        for (place, check) in self.checks.iter().enumerate() {
            let Some(there) = target(check.to, check.probe) else {
                // Was refused as a fault.
                continue;
            };
            let control = Purpose::Control(check.to, check.probe);
            let has_host = self.to[check.to].host().is_some();
            if !check.expected.is_reachable() && has_host && !controlled.contains(&control) {
                controlled.push(control);
                jobs.push(Job {
                    from: &self.to[check.to],
                    target: there.clone(),
                    probe: check.probe.fragmented(),
                    count: 1,
                    purpose: control,
                });
            }
            jobs.push(Job {
                from: &self.from[check.from],
                target: there,
                probe: check.probe,
                count: check.expected.probes(),
                purpose: Purpose::Check(place),
            });
        }
        jobs
    }
}

/// How many of the jobs may be done at once, at least one.
fn chunk(jobs: &[Job<'_>]) -> usize {
    let limit = most_sockets();
    let mut sockets = 0;
    let fit = jobs.iter().take_while(|job| {
        sockets += job.count as usize;
        sockets <= limit
    });
    fit.count().max(1).min(jobs.len())
}

/// How many sockets may be open at the same time. Both ends of a connection count against the
/// process's limit of descriptors, and others need some, too.
fn most_sockets() -> usize {
    /// What POSIX guarantees is far less; where the limit cannot be read this is safe.
    const AT_LEAST: u64 = 128;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(AT_LEAST, |(soft, _)| soft / 4);
    usize::try_from(limit.clamp(AT_LEAST, 4096)).unwrap_or(usize::MAX)
}

/// Does all jobs at once.
async fn ask(jobs: Vec<Job<'_>>, limit: Duration) -> Result<Vec<(Purpose, Actual)>, Error> {
    let mut by_source: HashMap<&str, Vec<Job<'_>>> = HashMap::new();
    for job in jobs {
        by_source.entry(job.from.name()).or_default().push(job);
    }
    let mut opened = Vec::new();
    for jobs in by_source.into_values() {
        let Some(from) = jobs.first().map(|job| job.from) else {
            continue;
        };
        // One visit to the namespace for all sockets.
        let sockets = from.inside(|| {
            let sockets = jobs.iter().map(|job| Sockets::open(job.probe, job.count));
            sockets.collect::<Result<Vec<_>, _>>()
        })?;
        let sockets = sockets.unwrap_or_else(|| Ok(Vec::new()));
        let sockets = sockets.map_err(|failed| no_probe(from.name(), failed))?;
        opened.extend(jobs.into_iter().zip(sockets));
    }
    let mut running = JoinSet::new();
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let carried = Arc::new(Semaphore::new(KIBIBYTES as usize));
    for (job, sockets) in opened {
        let (target, probe, count, purpose) = (job.target, job.probe, job.count, job.purpose);
        let from = job.from.name().to_owned();
        let (under_way, carried) = (Arc::clone(&under_way), Arc::clone(&carried));
        running.spawn(async move {
            // Nobody closes them.
            let turn = under_way.acquire_owned().await.ok();
            let mut burst = carried.acquire_many_owned(weight(probe)).await.ok();
            let mut asked = pin!(sockets.ask(&target, probe, count, limit));
            let actual = loop {
                let due = Instant::now() + WAITS;
                match timeout(WAITS, &mut asked).await {
                    Ok(actual) => break actual,
                    // Whatever waits now is not in a queue any more.
                    Err(_) if due.elapsed() > BUSY => drop(burst.take()),
                    Err(_) => {
                        drop((turn, burst));
                        break asked.await;
                    }
                }
            };
            (from, purpose, actual)
        });
    }
    let mut results = Vec::new();
    while let Some(done) = running.join_next().await {
        let (from, purpose, actual) = match done {
            Ok(done) => done,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let mut failures = actual.failures.iter();
        if let Some(failed) = failures.find(|failed| failed.how == Failure::NoProbe) {
            return Err(no_probe(&from, failed.clone()));
        }
        results.push((purpose, actual));
    }
    Ok(results)
}

/// How much of [`KIBIBYTES`] a probe takes; the largest one takes no more than there is. TCP sends
/// no more at once than the network has shown to carry.
fn weight(probe: Probe) -> u32 {
    match probe.protocol {
        Protocol::Icmp | Protocol::Trace | Protocol::Udp => {
            probe.size.div_ceil(1024).clamp(1, KIBIBYTES)
        }
        Protocol::Tcp | Protocol::Http => 0,
    }
}

fn no_probe(machine: &str, failed: Failed) -> Error {
    Error::Probe {
        machine: machine.to_owned(),
        source: failed.error.into(),
    }
}

/// What the rounds have shown so far.
#[derive(Debug)]
struct State {
    rounds: u32,
    seen: Vec<Seen>,
}

/// What the rounds have shown of one check.
#[derive(Debug, Clone, Default)]
struct Seen {
    last: Actual,
    wrong_rounds: u32,
    /// The last time that it was wrong.
    wrong: Option<Actual>,
}

impl State {
    fn new(plan: &Plan) -> Self {
        Self {
            rounds: 0,
            seen: vec![Seen::default(); plan.checks.len()],
        }
    }

    /// Returns how many are wrong.
    fn record(&mut self, plan: &Plan, actuals: Vec<Actual>) -> usize {
        self.rounds += 1;
        let mut wrong = 0;
        for ((check, seen), actual) in plan.checks.iter().zip(&mut self.seen).zip(actuals) {
            if !check.expected.judge(&actual).is_empty() {
                wrong += 1;
                seen.wrong_rounds += 1;
                seen.wrong = Some(actual.clone());
            }
            seen.last = actual;
        }
        wrong
    }

    fn into_matrix(self, plan: Plan, stable: bool, elapsed: Duration) -> Matrix {
        let names = |peers: &[Peer]| -> Vec<String> {
            peers.iter().map(|peer| peer.name().to_owned()).collect()
        };
        let (from, to) = (names(&plan.from), names(&plan.to));
        let last_is_right = {
            let mut all = plan.checks.iter().zip(&self.seen);
            all.all(|(check, seen)| check.expected.judge(&seen.last).is_empty())
        };
        let checks = plan.checks.into_iter().zip(self.seen);
        let checks = checks.map(|(check, seen)| {
            // When the last round was right, and yet not enough were in a row, the reason is a
            // check that was wrong before.
            let actual = match seen.wrong {
                Some(wrong) if !stable && last_is_right => wrong,
                _ => seen.last,
            };
            Check {
                from: from[check.from].clone(),
                to: to[check.to].clone(),
                probe: check.probe,
                wrong: check.expected.judge(&actual),
                expected: check.expected,
                actual,
                wrong_rounds: seen.wrong_rounds,
            }
        });
        let checks = checks.collect();
        Matrix {
            checks,
            from,
            to,
            rounds: self.rounds,
            stable,
            elapsed,
            events: plan.events,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
