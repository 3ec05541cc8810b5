//! The agent in numbers, in the text format that Prometheus reads (OpenMetrics 1.0).

use std::time::{Duration, SystemTime};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::apply::{Changes, Report};
use crate::desired::Desired;

/// The registry, and a handle on each number in it.
pub(crate) struct Metrics {
    registry: Registry,
    passes: Counter,
    resyncs: Counter,
    duration: Histogram,
    last_pass: Gauge,
    changes: Family<Kind, Counter>,
    repairs: Family<Kind, Counter>,
    refused: Counter,
    routes: Gauge,
    conflicts: Gauge,
    pod_mtu: Gauge,
    peers: Gauge,
    pods: Gauge,
    pods_waiting: Gauge,
    broken_files: Gauge,
    faults: Gauge,
    live: Gauge,
    ready: Gauge,
    encapsulation: Family<Backend, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Backend {
    backend: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("podlab_agent");
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let by_kind = |registry: &mut Registry, name: &str, help: &str| {
            let family = Family::<Kind, Counter>::default();
            registry.register(name, help, family.clone());
            // A rate over a series that begins with its first event misses that event.
            for (kind, _) in Changes::default().by_kind() {
                drop(family.get_or_create(&Kind { kind }));
            }
            family
        };
        // From half a millisecond to eight seconds.
        let duration = Histogram::new(exponential_buckets(0.0005, 2.0, 15));
        registry.register_with_unit(
            "pass_duration",
            "Time that a comparison of desired and actual state with its writes took",
            Unit::Seconds,
            duration.clone(),
        );
        let last_pass = Gauge::default();
        registry.register_with_unit(
            "last_pass_timestamp",
            "When the last comparison ended, as Unix time",
            Unit::Seconds,
            last_pass.clone(),
        );
        let encapsulation = Family::<Backend, Gauge>::default();
        registry.register(
            "encapsulation",
            "1 for the encapsulation backend at work",
            encapsulation.clone(),
        );
        let build = Family::<Version, Gauge>::default();
        registry.register("build_info", "1 for the running version", build.clone());
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&Version { version }).set(1);
        let r = &mut registry;
        Self {
            passes: counter(r, "passes", "Comparisons of desired and actual state"),
            resyncs: counter(r, "resyncs", "Comparisons that no event had asked for"),
            changes: by_kind(
                r,
                "changes",
                "Objects written to or removed from the kernel",
            ),
            repairs: by_kind(
                r,
                "repairs",
                "Objects written although the last comparison had left nothing to do and the \
                 datastore asked for nothing new: somebody else had changed them",
            ),
            refused: counter(r, "refusals", "Requests that the kernel refused"),
            routes: gauge(r, "routes", "Routes that are in place as they should be"),
            conflicts: gauge(
                r,
                "route_conflicts",
                "Administrator's routes in the place of ours",
            ),
            pod_mtu: gauge(
                r,
                "pod_mtu_bytes",
                "MTU of pods that are wired from now on; 0 while it is not known",
            ),
            peers: gauge(
                r,
                "peers",
                "Other nodes that encapsulated packets are taken from",
            ),
            pods: gauge(r, "pods", "Interfaces of local pods in the datastore"),
            pods_waiting: gauge(r, "pods_waiting", "Those that are missing or down"),
            broken_files: gauge(r, "datastore_broken_files", "Files that cannot be used"),
            faults: gauge(r, "datastore_faults", "Contradictions between files"),
            live: gauge(r, "live", "Whether the loop turns, as /livez answers"),
            ready: gauge(
                r,
                "ready",
                "Whether the last pass was complete, as /readyz answers",
            ),
            duration,
            last_pass,
            encapsulation,
            registry,
        }
    }
}

impl Metrics {
    /// Which backend was taken.
    pub(crate) fn encapsulation(&self, backend: &'static str) {
        self.encapsulation
            .get_or_create(&Backend { backend })
            .set(1);
    }

    /// A pass ended. `repair`: what it wrote, nobody but somebody else can have caused.
    pub(crate) fn passed(&self, report: &Report, took: Duration, resync: bool, repair: bool) {
        self.passes.inc();
        self.resyncs.inc_by(u64::from(resync));
        self.duration.observe(took.as_secs_f64());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.last_pass
            .set(now.map_or(0, |age| age.as_secs().cast_signed()));
        for (kind, number) in report.changes.by_kind() {
            let number = number as u64;
            self.changes.get_or_create(&Kind { kind }).inc_by(number);
            if repair {
                self.repairs.get_or_create(&Kind { kind }).inc_by(number);
            }
        }
        self.refused.inc_by(report.errors.len() as u64);
        set(&self.routes, report.routes);
        self.pod_mtu.set(report.pod_mtu.unwrap_or(0).into());
        set(&self.conflicts, report.conflicts.len());
        set(&self.pods_waiting, report.pods_waiting.len());
    }

    /// Routes were put back without a pass.
    pub(crate) fn put_back(&self, routes: usize) {
        let kind = Kind { kind: "route" };
        for family in [&self.changes, &self.repairs] {
            family.get_or_create(&kind).inc_by(routes as u64);
        }
    }

    /// What is desired now.
    pub(crate) fn desired(&self, desired: &Desired) {
        set(&self.peers, desired.peers.prefixes().len());
        set(&self.pods, desired.interfaces.len());
    }

    /// How many files of the datastore cannot be used now.
    pub(crate) fn broken_files(&self, number: usize) {
        set(&self.broken_files, number);
    }

    /// How many contradictions there are between files now.
    pub(crate) fn faults(&self, number: usize) {
        set(&self.faults, number);
    }

    /// All of it as text.
    pub(crate) fn text(&self, live: bool, ready: bool) -> String {
        set(&self.live, live.into());
        set(&self.ready, ready.into());
        let mut text = String::new();
        // Writing into a string fails only if a metric's own code does.
        match text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(),
        }
    }
}

fn set(gauge: &Gauge, number: usize) {
    gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value on the line of this series.
    #[track_caller]
    fn value(text: &str, series: &str) -> String {
        let prefix = format!("podlab_agent_{series} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
            .to_owned()
    }

    #[test]
    fn a_pass_is_counted_with_what_it_wrote_and_whose_fault_it_was() {
        let metrics = Metrics::default();
        metrics.encapsulation("ebpf");
        let mut report = Report {
            routes: 7,
            pod_mtu: Some(1480),
            ..Report::default()
        };
        report.changes.routes = 3;
        report.pods_waiting.insert("cali1".to_owned());
        report.errors.insert("no".to_owned());
        let took = Duration::from_millis(3);
        metrics.passed(&report, took, true, false);
        report.changes.routes = 1;
        metrics.passed(&report, took, false, true);

        let text = metrics.text(true, false);
        for (series, expected) in [
            ("passes_total", "2"),
            ("resyncs_total", "1"),
            ("changes_total{kind=\"route\"}", "4"),
            ("changes_total{kind=\"address\"}", "0"),
            ("repairs_total{kind=\"route\"}", "1"),
            ("refusals_total", "2"),
            ("routes", "7"),
            ("pods_waiting", "1"),
            ("pod_mtu_bytes", "1480"),
            ("pass_duration_seconds_count", "2"),
            ("pass_duration_seconds_bucket{le=\"0.002\"}", "0"),
            ("pass_duration_seconds_bucket{le=\"0.004\"}", "2"),
            ("encapsulation{backend=\"ebpf\"}", "1"),
            ("live", "1"),
            ("ready", "0"),
        ] {
            assert_eq!(value(&text, series), expected, "{series}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn every_number_says_what_it_is() {
        let text = Metrics::default().text(false, false);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let described = |suffix: &str| {
                let name = name.strip_suffix(suffix).unwrap_or(name);
                text.contains(&format!("# HELP {name} "))
            };
            let suffixes = ["", "_total", "_sum", "_count", "_bucket"];
            assert!(suffixes.into_iter().any(described), "{line}");
        }
    }
}
