//! The agent's one loop: datastore and kernel events in, the difference out.
//!
//! It is level-triggered. An event says only that something may differ; what differs is found
//! by looking, so lost, doubled and reordered events end in the same state. What the agent
//! itself writes causes no events here ([`Events`] leaves them out), so it never chases itself.
//!
//! ```text
//! datastore files ─ watch ─► store ─► desired ─┐
//!                                              ├─► apply::sync ─► kernel
//! kernel events ── concerns us? ── again ──────┘
//! ```
//!
//! A pass is followed by a pause as long as the pass took, a tenth of a second at most: the
//! first event of a burst is answered at once, and a thousand more do not cost a thousand
//! passes. A deleted route is put back without one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::apply::{self, Newcomers, Pass, Report};
use crate::datastore::watch::{Change, Watch};
use crate::datastore::{Store, check};
use crate::desired::Desired;
use crate::encap::{self, Choice, Encapsulation, Selected};
use crate::failure::Failure;
use crate::filter::Filter;
use crate::mtu_file;
use crate::netlink::Kernel;
use crate::netlink::events::{Event, Events};
use crate::notices::Notices;
use crate::notify;
use crate::ops::Vitals;
use crate::ops::listen::Listen;
use crate::ops::server::Server;
use crate::platform::{KernelError, Route};
use crate::report;

/// What the command line says.
pub(crate) struct Options {
    pub datastore: PathBuf,
    pub node: String,
    pub encap: Choice,
    /// Where health and metrics are asked for, if anywhere.
    pub serve: Option<Listen>,
    /// Where the pods' MTU is written to, if anywhere.
    pub mtu_file: Option<PathBuf>,
    /// How often everything is compared although no event asked for it.
    pub resync: Duration,
    /// For how long unknown routes on a new pod interface are left alone.
    pub route_grace: Duration,
}

/// When what the kernel refused is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two passes that events ask for.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs until SIGTERM or SIGINT, and leaves the network as it is then.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::runtime)?;

    let vitals = Vitals::default();
    let server = options
        .serve
        .clone()
        .map(|place| Server::start(place, vitals.clone()))
        .transpose()
        .map_err(Failure::bad_input)?;
    if let Some(server) = &server {
        info!("serving health and metrics on {}", server.place());
    }

    // Watching begins before reading, so that no change falls in between.
    let mut watch = Watch::new(&options.datastore);
    let store = Store::open(&options.datastore, &options.node).map_err(Failure::bad_input)?;
    let desired = Desired::compute(store.snapshot(), &options.node).map_err(Failure::bad_input)?;
    let mut kernel = Kernel::new().map_err(Failure::missing)?;
    let mut events = Events::new(kernel.port()).map_err(Failure::missing)?;
    let encapsulation = encap::select(
        options.encap,
        encap::candidates(options.encap),
        |backend| backend.name(),
        |backend| backend.prepare(&mut kernel),
    )
    .map_err(Failure::missing)?;
    info!(
        "encapsulation: {} ({})",
        encapsulation.name(),
        encapsulation.why
    );

    let health = vitals.health.clone();
    let mut agent = Agent::new(options, store, desired, kernel, encapsulation, vitals);
    // What is wrong with the files is told as it is later, and decided as it was before: an agent
    // that was killed while they contradict each other takes the same winner as one that was not.
    agent.datastore_read(true);
    loop {
        // Not left to the timer, which wakes up a millisecond late.
        if agent.next_pass() <= Instant::now() {
            agent.pass()?;
        }
        health.turn(agent.next_turn().into_std());
        let woken = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            changes = watch.changed() => Woken::Datastore(changes),
            events = events.next() => Woken::Kernel(events.map_err(Failure::runtime)?),
            () = sleep_until(agent.next_turn()) => Woken::Timer,
        };
        // From here on it may get stuck.
        health.turn(Instant::now().into_std());
        match woken {
            Woken::Datastore(changes) => {
                let mut changed = false;
                for change in changes {
                    changed |= change.apply(&mut agent.store);
                }
                agent.datastore_read(changed);
            }
            Woken::Kernel(events) => {
                agent.kernel_changed(&events);
            }
            Woken::Timer => {
                if agent.is_to_read_again() {
                    watch.again();
                    agent.read_again();
                }
            }
        }
    }
    notify::send(&["STOPPING=1"]);
    info!("stopping; the network stays as it is");
    Ok(())
}

enum Woken {
    Datastore(Vec<Change>),
    Kernel(Vec<Event>),
    Timer,
}

struct Agent {
    node: String,
    store: Store,
    desired: Desired,
    kernel: Kernel,
    encapsulation: Selected<Box<dyn Encapsulation>>,
    filter: Filter,
    resync_interval: Duration,
    mtu_file: Option<PathBuf>,
    newcomers: Newcomers,
    /// Indices of our interfaces, as of the last pass.
    interfaces: BTreeSet<u32>,
    /// Routes that were in place after the last pass, as long as they are desired.
    placed: BTreeMap<Ipv4Net, Route>,
    ready: bool,
    /// A pass left nothing to do, and the datastore asked for nothing since: whatever there is to
    /// do now, somebody else has caused, also when it takes more than one pass.
    settled: bool,
    vitals: Vitals,
    /// When a pass is due that something asked for.
    due: Option<Instant>,
    /// Before that it would take more than its share of the processor.
    not_before: Instant,
    resync: Instant,
    /// When what could not be used of the datastore is read again.
    reread: Option<Instant>,
    files: Notices,
    faults: Notices,
    troubles: Notices,
}

impl Agent {
    fn new(
        options: Options,
        store: Store,
        desired: Desired,
        kernel: Kernel,
        encapsulation: Selected<Box<dyn Encapsulation>>,
        vitals: Vitals,
    ) -> Self {
        let now = Instant::now();
        vitals.metrics.encapsulation(encapsulation.name());
        vitals.metrics.desired(&desired);
        Self {
            node: options.node,
            resync_interval: options.resync,
            mtu_file: options.mtu_file,
            newcomers: Newcomers::new(options.route_grace),
            store,
            desired,
            kernel,
            encapsulation,
            filter: Filter::default(),
            interfaces: BTreeSet::new(),
            placed: BTreeMap::new(),
            ready: false,
            settled: false,
            vitals,
            due: Some(now),
            not_before: now,
            resync: now,
            reread: None,
            files: Notices::default(),
            faults: Notices::default(),
            troubles: Notices::default(),
        }
    }

    fn is_concerned(&self, event: &Event) -> bool {
        apply::concerns(event, &self.desired, &self.interfaces)
            || self.filter.concerns(event)
            || self.encapsulation.concerns(event)
    }

    /// Somebody else did something; perhaps to us.
    fn kernel_changed(&mut self, events: &[Event]) {
        let concerning: Vec<&Event> = events.iter().filter(|e| self.is_concerned(e)).collect();
        if concerning.is_empty() {
            return;
        }
        match apply::put_back(&mut self.kernel, &self.placed, concerning) {
            Some(routes) => {
                info!("put back {}", count(routes, "deleted route"));
                self.vitals.metrics.put_back(routes);
            }
            None => self.again(),
        }
    }

    fn next_pass(&self) -> Instant {
        self.due.map_or(self.resync, |due| due.min(self.resync))
    }

    /// When it has something to do at the latest.
    fn next_turn(&self) -> Instant {
        let pass = self.next_pass();
        self.reread.map_or(pass, |reread| reread.min(pass))
    }

    fn is_to_read_again(&self) -> bool {
        self.reread.is_some_and(|reread| reread <= Instant::now())
    }

    /// Tries again what of the datastore could not be used.
    fn read_again(&mut self) {
        let changed = self.store.reload_incomplete();
        self.datastore_read(changed);
    }

    /// Something may differ: asks for a pass as soon as the pause allows.
    fn again(&mut self) {
        let soon = self.not_before.max(Instant::now());
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Files were read again; `changed` tells whether they now say something else.
    fn datastore_read(&mut self, changed: bool) {
        let complaints = self.store.complaints();
        self.vitals.metrics.broken_files(complaints.len());
        self.files
            .update(complaints, |what| error!("datastore: {what}"));
        let incomplete = self.store.is_incomplete();
        self.reread = incomplete.then(|| Instant::now() + RETRY);
        if !changed {
            return;
        }
        let mut faults: BTreeSet<String> = check(self.store.snapshot())
            .iter()
            .map(ToString::to_string)
            .collect();
        match Desired::compute(self.store.snapshot(), &self.node) {
            Ok(desired) if desired != self.desired => {
                self.desired = desired;
                self.placed.clear();
                self.settled = false;
                self.vitals.metrics.desired(&self.desired);
                self.again();
            }
            Ok(_) => {}
            // Whoever removed the node may not have meant its pods' network.
            Err(_) => {
                let node = &self.node;
                faults.insert(format!(
                    "nodes/{node}.json: is gone; keeping the network as it is"
                ));
            }
        }
        self.vitals.metrics.faults(faults.len());
        self.faults
            .update(faults, |fault| error!("datastore: {fault}"));
    }

    fn pass(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        let thorough = begin >= self.resync;
        self.due = None;
        let report = apply::sync(
            &mut self.kernel,
            &mut self.encapsulation,
            &mut self.filter,
            &self.desired,
            Pass {
                thorough,
                now: begin.into_std(),
                newcomers: &mut self.newcomers,
            },
        );
        let report = report.map(|report| self.publish(report));
        let end = Instant::now();
        self.not_before = end + (end - begin).min(PAUSE);
        if thorough {
            self.resync = end + self.resync_interval;
        }
        let report = self.digest(report, end - begin)?;
        self.measure(&report, end - begin, thorough);
        self.announce(&report);
        if !report.errors.is_empty() {
            self.due = Some(end + RETRY);
        }
        if let Some(again) = report.look_again.map(Instant::from_std) {
            self.due = Some(self.due.map_or(again, |due| due.min(again)));
        }
        self.interfaces = report.interfaces;
        self.placed = report.placed;
        Ok(())
    }

    /// Tells whoever wires pods which MTU to give them.
    fn publish(&self, mut report: Report) -> Report {
        if let (Some(path), Some(mtu)) = (&self.mtu_file, report.pod_mtu) {
            match mtu_file::write(path, mtu) {
                Ok(true) => info!("pods that are wired from now on get MTU {mtu}"),
                Ok(false) => {}
                Err(error) => drop(report.errors.insert(report::line(&error))),
            }
        }
        report
    }

    /// Tells those who ask from outside.
    fn measure(&mut self, report: &Report, took: Duration, resync: bool) {
        let undone: Vec<&str> = report
            .errors
            .iter()
            .chain(&report.not_ready)
            .map(String::as_str)
            .collect();
        let metrics = &self.vitals.metrics;
        metrics.passed(report, took, resync, self.settled);
        self.settled |= undone.is_empty() && report.pods_waiting.is_empty();
        self.vitals.health.passed(match undone.is_empty() {
            true => Ok(()),
            false => Err(undone.join("; ")),
        });
    }

    /// Tells the log what is new.
    fn digest(
        &mut self,
        report: Result<Report, KernelError>,
        took: Duration,
    ) -> Result<Report, Failure> {
        let report = report.map_err(Failure::runtime)?;
        if report.lacks_privilege && !self.ready {
            return Err(Failure::refused(&report.errors));
        }
        if report.changes.total() > 0 {
            info!(
                "wrote {} in {took:.1?}; {}",
                count(report.changes.total(), "change"),
                status(&report)
            );
        }
        let errors = report.errors.iter().cloned();
        let not_ready = report
            .not_ready
            .iter()
            .map(|why| format!("not ready: {why}"));
        let pods = report
            .pods_waiting
            .iter()
            .map(|pod| format!("waiting for pod interface {pod}"));
        let conflicts = report.conflicts.iter().map(|route| {
            format!("an administrator's route is in the place of one of ours, left alone: {route}")
        });
        let unprotected = report
            .unprotected
            .iter()
            .map(|why| format!("the node is not protected: {why}"));
        let troubles = errors
            .chain(not_ready)
            .chain(pods)
            .chain(conflicts)
            .chain(unprotected)
            .collect();
        self.troubles.update(troubles, |trouble| warn!("{trouble}"));
        Ok(report)
    }

    /// Tells whoever waits that the first sync is applied; after everything else, so that whoever
    /// asks then is answered the same.
    fn announce(&mut self, report: &Report) {
        if !self.ready && report.errors.is_empty() && report.not_ready.is_empty() {
            self.ready = true;
            let status = status(report);
            info!("ready: {status}");
            notify::send(&[
                "READY=1",
                &format!("STATUS={status}"),
                &format!("X_ENCAP={}", self.encapsulation.name()),
                &format!("X_ENCAP_WHY={}", self.encapsulation.why),
            ]);
        }
    }
}

fn status(report: &Report) -> String {
    let mut status = format!("{} in place", count(report.routes, "route"));
    if !report.pods_waiting.is_empty() {
        let waiting = count(report.pods_waiting.len(), "pod");
        status += &format!(", {waiting} waiting for their interface");
    }
    if report.unprotected.is_some() {
        status += ", without packet filter";
    }
    status
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
