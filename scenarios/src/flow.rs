//! A thousand pings a second, by `ping` itself: what they lose is lost, whatever the test does.
//!
//! A second of a usual machine, that is: on one that is eight times slower, by the patience factor,
//! eight seconds. Otherwise `ping` could neither send at that rate nor read what comes back, and
//! would count its own lateness as losses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use podlab::process::{Process, Program};
use podlab::{Cluster, Pod, patience};

/// How long an answer may take to come.
const SOON: Duration = Duration::from_secs(5);

/// From one ping to the next.
const INTERVAL: Duration = Duration::from_millis(1);

/// Pings from one pod to another, one each millisecond, until they are counted.
pub struct Flow {
    pair: String,
    ping: Process,
    interval: Duration,
    /// When the first answer had come.
    begun: Instant,
}

/// What became of a flow. Printed as in `a to b: 3 of 2000 lost: 3 from 117 (30 ms)`.
#[derive(Debug)]
pub struct Losses {
    pair: String,
    sent: u32,
    outages: Vec<Outage>,
    /// Answers that came, and found the queue of `ping` full: it was not let run for so long.
    unread: u32,
}

/// A run of pings without an answer.
#[derive(Debug)]
struct Outage {
    /// The number of the first.
    first: u32,
    count: u32,
    /// Between the answers before and after. While none comes `ping` sends only 100 a second.
    length: Duration,
}

impl Flow {
    /// Begins; the first answer has come when this returns.
    ///
    /// A single ping of the same identifier is answered before: then the nodes' connection
    /// tracking knows the flow. As long as it does not, each of the first packets is a connection
    /// of its own, and of two that are under way at once the kernel drops one when it finds the
    /// other's entry in the table (`insert_failed`). That is the kernel's loss, not the tunnel's.
    pub async fn start(from: &Pod, to: &Pod) -> Result<Self> {
        // The harness's own pings count up from 1, and `ping` takes an answer of the same
        // identifier for its own. 0 would mean that ping chooses one.
        static IDENTIFIER: AtomicU16 = AtomicU16::new(u16::MAX);
        let identifier = IDENTIFIER
            .fetch_sub(1, Ordering::Relaxed)
            .max(1)
            .to_string();
        let target = to.address().to_string();
        let interval = patience::scaled(INTERVAL)?;
        let every = interval.as_secs_f64().to_string();
        let pair = format!("{} to {}", from.name(), to.name());
        // `-e` is in iputils since 20200821.
        let ping = Program::new("ping").args(["-n", "-D", "-e", &identifier]);
        let first = ping.clone().args(["-c", "1", "-W", "5", &target]);
        from.exec(first).await?.success().context(pair.clone())?;
        let mut ping = from.spawn(ping.args(["-i", &every, &target]))?;
        ping.wait_for_line(|line| sequence(line).is_some(), SOON)
            .await
            .context(pair.clone())?;
        Ok(Self {
            pair,
            ping,
            interval,
            begun: Instant::now(),
        })
    }

    /// One in each direction between every two of the pods.
    pub async fn between(cluster: &Cluster, pods: &[&str]) -> Result<Vec<Self>> {
        let mut flows = Vec::new();
        for from in pods {
            for to in pods.iter().filter(|to| *to != from) {
                flows.push(Self::start(&cluster.pod(from)?, &cluster.pod(to)?).await?);
            }
        }
        Ok(flows)
    }

    /// Ends it and prints what was lost of all that was sent before this was called. Fails when
    /// there is no answer any more, and when it was no flow: with less than a quarter of the pings
    /// that were due while there were answers, outages may lie between them. (While other programs
    /// have the processors, none is due.)
    ///
    /// # Errors
    /// The same, and when there is no telling.
    pub async fn count(mut self) -> Result<Losses> {
        let elapsed = self.begun.elapsed();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let later = |line: &str| sent_at(line).is_some_and(|at| at >= now.as_secs_f64());
        // Whatever was sent before that one was answered before, or never will be.
        let line = self
            .ping
            .wait_for_line(later, SOON)
            .await
            .with_context(|| format!("{}: no answer any more", self.pair))?;
        let last = sequence(&line).context("an answer without a number")?;
        let process = self.ping.id().context("ping has ended")?;
        let (unread, waited) = (unread(process)?, waited(process)?);
        let output = self.ping.stop(Signal::SIGINT).await?;
        let losses = Losses::read(self.pair, &output.stdout, last, unread)?;
        println!("{losses}");
        let answered = elapsed.saturating_sub(losses.outages.iter().map(|o| o.length).sum());
        let could = answered.saturating_sub(waited);
        let due = could.as_secs_f64() / self.interval.as_secs_f64();
        ensure!(
            f64::from(losses.sent) >= due / 4.0,
            "{}: only {} of {due:.0} pings were sent in {could:?} of {elapsed:?}, and a quarter of \
             them is asked for; asked at {now:?}, the last was {line:?}",
            losses.pair,
            losses.sent
        );
        Ok(losses)
    }

    /// Ends them all; fails when one has lost anything.
    pub async fn none_lost(flows: Vec<Self>) -> Result<()> {
        for flow in flows {
            let losses = flow.count().await?;
            ensure!(losses.lost() == 0, "{losses}");
        }
        Ok(())
    }
}

impl Losses {
    /// What was lost of the pings up to the one with the number `last`.
    fn read(pair: String, text: &str, last: u32, unread: u32) -> Result<Self> {
        let answers = text
            .lines()
            .filter_map(|line| Some((sequence(line)?, time(line)?)))
            .filter(|(number, _)| *number <= last);
        let seen: BTreeMap<u32, f64> = answers.collect();
        ensure!(!seen.is_empty(), "{pair}: no answer");
        let mut outages = Vec::new();
        let mut before = (0, None);
        for (&number, &at) in &seen {
            let (previous, when) = before;
            if let Some(count @ 1..) = number.checked_sub(previous + 1) {
                let length = when.map_or(0.0, |when: f64| at - when);
                outages.push(Outage {
                    first: previous + 1,
                    count,
                    length: Duration::from_secs_f64(length.max(0.0)),
                });
            }
            before = (number, Some(at));
        }
        Ok(Self {
            pair,
            sent: last,
            outages,
            unread,
        })
    }

    /// How many pings the network has lost.
    pub fn lost(&self) -> u32 {
        let unanswered: u32 = self.outages.iter().map(|outage| outage.count).sum();
        unanswered.saturating_sub(self.unread)
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} lost", self.pair, self.lost(), self.sent)?;
        for (at, outage) in self.outages.iter().enumerate() {
            let before = if at == 0 { ":" } else { "," };
            let Outage { first, count, .. } = outage;
            write!(
                f,
                "{before} {count} from {first} ({} ms)",
                outage.length.as_millis()
            )?;
        }
        match self.unread {
            0 => Ok(()),
            unread => write!(f, "; {unread} answers were not read in time"),
        }
    }
}

/// Of an answer only: the line of an ICMP error has a number, too. Numbers have 16 bits, and a flow
/// of a minute has not used them up.
fn sequence(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once(" bytes from ")?;
    let (_, rest) = rest.split_once("icmp_seq=")?;
    let (number, rest) = rest.split_once(' ')?;
    rest.starts_with("ttl=").then(|| number.parse().ok())?
}

/// When it came, in seconds; what `-D` puts before it.
fn time(line: &str) -> Option<f64> {
    line.strip_prefix('[')?.split_once(']')?.0.parse().ok()
}

/// When the ping was sent whose answer this is, in seconds: the answer's time less its round trip's.
fn sent_at(line: &str) -> Option<f64> {
    sequence(line)?;
    let (_, rest) = line.split_once(" time=")?;
    let milliseconds: f64 = rest.split_once(' ')?.0.parse().ok()?;
    Some(time(line)? - milliseconds / 1e3)
}

/// How many packets the kernel has thrown away because a process did not read its raw sockets in
/// time (the last column of /proc/net/raw, `drops`).
fn unread(process: u32) -> Result<u32> {
    let files = format!("/proc/{process}/fd");
    let mut sockets = BTreeSet::new();
    for file in std::fs::read_dir(&files).context(files)? {
        let Ok(target) = std::fs::read_link(file?.path()) else {
            continue; // closed meanwhile
        };
        let target = target.to_string_lossy();
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|s| s.strip_suffix(']'));
        sockets.extend(inode.map(str::to_owned));
    }
    let table = format!("/proc/{process}/net/raw");
    let table = std::fs::read_to_string(&table).context(table)?;
    let mut unread = 0;
    let mut found = false;
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, _, _, _, _, _, _, inode, _, _, drops] = columns[..]
            && sockets.contains(inode)
        {
            found = true;
            unread += drops.parse::<u32>()?;
        }
    }
    ensure!(found, "ping has no raw socket in {table:?}");
    Ok(unread)
}

/// How long a process was ready to run and was not let (the second number of its schedstat, in
/// nanoseconds; sched-stats.rst of the kernel).
fn waited(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/schedstat");
    let text = std::fs::read_to_string(&path).context(path)?;
    let nanoseconds = text.split(' ').nth(1).context("a short schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow is not content with a network that loses packets.
    #[test]
    fn a_flow_counts_what_is_lost() -> Result<()> {
        let answer = |number: u32| {
            let second = f64::from(number) / 100.0;
            format!("[{second:.6}] 64 bytes from 10.0.0.1: icmp_seq={number} ttl=62 time=0.1 ms\n")
        };
        let text = |numbers: &[u32]| -> String {
            let answers: String = numbers.iter().map(|number| answer(*number)).collect();
            format!("{answers}From 10.0.0.9 icmp_seq=3 Destination Host Unreachable\n")
        };
        let read = |numbers: &[u32], last, unread| {
            Losses::read("a to b".to_owned(), &text(numbers), last, unread)
        };
        let losses = read(&[1, 2, 5, 6, 9, 10, 13], 10, 0)?;
        assert_eq!(
            losses.to_string(),
            "a to b: 4 of 10 lost: 2 from 3 (30 ms), 2 from 7 (30 ms)"
        );
        assert!(read(&[1, 2, 3, 5], 3, 0)?.outages.is_empty());
        let losses = read(&[1, 5], 5, 2)?;
        assert_eq!(
            losses.to_string(),
            "a to b: 1 of 5 lost: 3 from 2 (40 ms); 2 answers were not read in time"
        );
        assert!(read(&[], 3, 0).is_err());
        assert_eq!(sent_at(&answer(50)), Some(0.4999));
        Ok(())
    }
}
