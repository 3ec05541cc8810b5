//! For which reason the kernel dropped a packet: its tracepoint `skb:kfree_skb`.
//!
//! The tracepoint tells of every packet of the whole machine, by time and reason and not by
//! content. So what counts is what was dropped in the instant after the probe was last seen. Only
//! the machine's root may listen; for everybody else this source is silent.
//!
//! Nothing of the host changes: the events are those of this process's own descriptors, and the
//! file system in which the kernel describes them is mounted nowhere.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use perf_event::events::Tracepoint;
use perf_event::{Builder, Clock, SampleFlag, Sampler};

use crate::namespace::mounted_nowhere;
use crate::patience;

/// How long after a packet was seen it may be dropped for that to be its end. Dropping happens in
/// the same burst of work, so it is tens of microseconds; more would only catch others. On a slow
/// machine it is longer by the patience factor.
const INSTANT: Duration = Duration::from_micros(300);
/// Taps see a packet before it is counted as seen everywhere: stamps differ by a little.
const BEFORE: Duration = Duration::from_micros(5);
/// Bytes of each processor's buffer.
const BUFFER: usize = 1 << 18;
/// `ETH_P_IP`.
const IPV4: u16 = 0x0800;

/// A drop that the kernel told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trace) struct Drop {
    at: SystemTime,
    protocol: u16,
    reason: String,
}

/// Listens on all processors.
pub(in crate::trace) struct DropMonitor {
    samplers: Vec<Sampler>,
    format: Format,
    /// What the wall clock is ahead of the monotonic one.
    ahead: Duration,
    instant: Duration,
}

impl DropMonitor {
    /// # Errors
    /// For everybody but root, and where the kernel has no such tracepoint.
    pub(in crate::trace) fn start() -> io::Result<Self> {
        // The file system with the descriptions of the kernel's events.
        let events = mounted_nowhere("tracefs", &[])?;
        let id = read(&events, "events/skb/kfree_skb/id")?;
        let id = id.trim().parse().map_err(io::Error::other)?;
        let format = Format::parse(&read(&events, "events/skb/kfree_skb/format")?);
        let format = format.ok_or_else(|| io::Error::other("the event has another format"))?;
        let processors = std::thread::available_parallelism()?.get();
        let samplers = (0..processors).map(|processor| {
            let mut counter = Builder::new(Tracepoint::with_id(id))
                .any_pid()
                .one_cpu(processor)
                .include_kernel()
                .sample_period(1)
                .sample(SampleFlag::TIME | SampleFlag::RAW)
                .clockid(Clock::MONOTONIC)
                .build()?;
            counter.enable()?;
            counter.sampled(BUFFER)
        });
        Ok(Self {
            samplers: samplers.collect::<io::Result<_>>()?,
            format,
            ahead: wall_clock_ahead()?,
            instant: patience::scaled(INSTANT).map_err(io::Error::other)?,
        })
    }

    /// The reasons of IPv4 packets that were dropped in the instant after `seen`.
    pub(in crate::trace) fn finish(mut self, seen: SystemTime) -> Vec<String> {
        let mut drops = Vec::new();
        for sampler in &mut self.samplers {
            while let Some(record) = sampler.next_record() {
                let Ok(perf_event::data::Record::Sample(sample)) = record.parse_record() else {
                    continue;
                };
                let (Some(time), Some(raw)) = (sample.time(), sample.raw()) else {
                    continue;
                };
                let at = SystemTime::UNIX_EPOCH + self.ahead + Duration::from_nanos(time);
                drops.extend(self.format.decode(raw, at));
            }
        }
        reasons(&drops, seen, self.instant)
    }
}

/// What the wall clock is ahead of the monotonic one. A process that loses the processor between
/// two looks at clocks would be wrong by milliseconds: of several tries the quickest counts.
fn wall_clock_ahead() -> io::Result<Duration> {
    const TRIES: usize = 16;
    let now = |clock| clock_gettime(clock).map(Duration::from);
    let mut best = (Duration::MAX, Duration::ZERO);
    for _ in 0..TRIES {
        let before = now(ClockId::CLOCK_MONOTONIC)?;
        let wall = now(ClockId::CLOCK_REALTIME)?;
        let took = now(ClockId::CLOCK_MONOTONIC)?.saturating_sub(before);
        if took < best.0 {
            best = (took, wall.saturating_sub(before + took / 2));
        }
    }
    Ok(best.1)
}

/// What says something about a packet that was last seen then, the nearest in time first.
fn reasons(drops: &[Drop], seen: SystemTime, instant: Duration) -> Vec<String> {
    // Said of what nobody has given a reason for.
    const NONE: &str = "NOT_SPECIFIED";
    let then = drops.iter().filter_map(|drop| {
        let since = (drop.at + BEFORE).duration_since(seen).ok()?;
        let told = drop.protocol == IPV4 && drop.reason != NONE && since <= instant + BEFORE;
        told.then_some((since, &drop.reason))
    });
    let mut then: Vec<_> = then.collect();
    then.sort_by_key(|(since, _)| *since);
    let mut reasons: Vec<String> = Vec::new();
    for (_, reason) in then {
        if !reasons.contains(reason) {
            reasons.push(reason.clone());
        }
    }
    reasons
}

/// Where the fields of the event are, and what its numbers mean.
#[derive(Debug, PartialEq, Eq)]
struct Format {
    protocol: usize,
    reason: usize,
    names: Vec<(u32, String)>,
}

impl Format {
    /// From the kernel's description: `field:… reason; offset:36; …`, and the names in the
    /// `print fmt` as `{ 2, "NOT_SPECIFIED" }`.
    fn parse(text: &str) -> Option<Self> {
        let offset = |field: &str| {
            let line = text
                .lines()
                .find(|line| line.contains(&format!(" {field};")))?;
            let (_, rest) = line.split_once("offset:")?;
            rest.split(';').next()?.trim().parse().ok()
        };
        let (_, print) = text.split_once("print fmt:")?;
        let names = print.split('{').skip(1).filter_map(|entry| {
            let (number, rest) = entry.split_once(',')?;
            let name = rest.split('"').nth(1)?;
            Some((number.trim().parse().ok()?, name.to_owned()))
        });
        Some(Self {
            protocol: offset("protocol")?,
            reason: offset("reason")?,
            names: names.collect(),
        })
    }

    fn decode(&self, raw: &[u8], at: SystemTime) -> Option<Drop> {
        let protocol = raw.get(self.protocol..self.protocol + 2)?;
        let reason = raw.get(self.reason..self.reason + 4)?;
        let reason = u32::from_ne_bytes(reason.try_into().ok()?);
        let mut names = self.names.iter();
        let name = names.find(|(number, _)| *number == reason);
        Some(Drop {
            at,
            protocol: u16::from_ne_bytes(protocol.try_into().ok()?),
            reason: name.map_or_else(|| reason.to_string(), |(_, name)| name.clone()),
        })
    }
}

fn read(folder: &OwnedFd, path: &str) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(folder.as_fd(), path, flags, Mode::empty())?);
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: kfree_skb\nformat:\n\
        \tfield:void * location;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:unsigned short protocol;\toffset:4;\tsize:2;\tsigned:0;\n\
        \tfield:enum skb_drop_reason reason;\toffset:8;\tsize:4;\tsigned:0;\n\n\
        print fmt: \"reason: %s\", __print_symbolic(REC->reason, \
        { 2, \"NOT_SPECIFIED\" }, { 14, \"IP_CSUM\" })\n";

    fn raw(protocol: u16, reason: u32) -> Vec<u8> {
        let mut raw = vec![0; 4];
        raw.extend(protocol.to_ne_bytes());
        raw.extend([0; 2]);
        raw.extend(reason.to_ne_bytes());
        raw
    }

    #[test]
    fn fields_and_names_are_those_of_the_kernels_description() {
        let format = Format::parse(FORMAT).unwrap();
        let at = SystemTime::UNIX_EPOCH;
        let decoded = format.decode(&raw(IPV4, 14), at).unwrap();
        assert_eq!((decoded.protocol, &*decoded.reason), (IPV4, "IP_CSUM"));
        assert_eq!(format.decode(&raw(IPV4, 99), at).unwrap().reason, "99");
        assert_eq!(format.decode(&[0; 9], at), None);
        assert_eq!(Format::parse("name: kfree_skb\n"), None);
    }

    #[test]
    fn only_what_was_dropped_in_that_instant_counts() {
        let seen = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let drop = |micros: u64, protocol, reason: &str| Drop {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(micros),
            protocol,
            reason: reason.to_owned(),
        };
        let drops = [
            drop(999_900, IPV4, "BEFORE"),
            drop(1_000_200, IPV4, "SOMEBODY_ELSES"),
            drop(1_000_040, IPV4, "IP_CSUM"),
            drop(1_000_050, IPV4, "IP_CSUM"),
            drop(1_000_060, 0x0806, "ARP"),
            drop(1_000_070, IPV4, "NOT_SPECIFIED"),
            drop(1_001_000, IPV4, "AFTER"),
        ];
        assert_eq!(
            reasons(&drops, seen, INSTANT),
            ["IP_CSUM", "SOMEBODY_ELSES"]
        );
    }
}
