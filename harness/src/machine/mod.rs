//! A machine: what nodes, pods and the fabric have in common.
//!
//! A machine has a network of its own, a hostname of its own and its own view of `/run`, `/sys`
//! and `/etc/hosts`. The verbs of a test live on it: [`ping`](Machine::ping),
//! [`http_get`](Machine::http_get), [`serve_http`](Machine::serve_http),
//! [`exec`](Machine::exec), [`spawn`](Machine::spawn), [`capture`](Machine::capture),
//! [`routes`](Machine::routes).

mod kernel;
mod probes;
mod sysctl;
mod taps;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::Error;
use crate::event::{EventLog, Kind};
use crate::fault::Faults;
use crate::namespace::{MountPlan, Namespaces};
use crate::netlink::Netlink;
use crate::process::{Output, Process, Program, kill_all_in};

/// How long [`Machine::exec`] lets a program run.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);

/// A handle on a machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Machine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    namespaces: Namespaces,
    netlink: Netlink,
    events: EventLog,
    /// The faults of its cluster.
    faults: Faults,
    /// Set when its node or pod was removed from the cluster.
    removed: AtomicBool,
}

impl Machine {
    /// Wraps fresh namespaces: sets their defaults and connects netlink. `lo` is still down.
    pub(crate) fn new(
        name: &str,
        namespaces: Namespaces,
        forwarding: bool,
        events: EventLog,
        faults: Faults,
    ) -> Result<Self, Error> {
        sysctl::set_defaults(&namespaces, name, forwarding)?;
        let netlink = Netlink::connect(&namespaces, name)?;
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                namespaces,
                netlink,
                events,
                faults,
                removed: AtomicBool::new(false),
            }),
        })
    }

    /// Makes the namespaces of several machines, one after the other: the kernel serialises it.
    ///
    /// Runs on a thread of its own, so that the runtime's threads stay free.
    pub(crate) async fn create_namespaces(
        machines: Vec<(String, MountPlan)>,
    ) -> Result<Vec<Namespaces>, Error> {
        let create = move || {
            let each = machines
                .iter()
                .map(|(name, mounts)| Namespaces::create(name, mounts));
            each.collect::<Result<Vec<_>, _>>()
        };
        match tokio::task::spawn_blocking(create).await {
            Ok(namespaces) => Ok(namespaces?),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    /// Its name, which is its hostname.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs a program to its end, for at most 30 seconds (scaled by the patience factor).
    ///
    /// # Errors
    /// When it cannot be started or does not end. A program that fails is no error here: see
    /// [`Output::success`].
    pub async fn exec(&self, program: impl Into<Program>) -> Result<Output, Error> {
        Ok(self.spawn(program)?.wait(EXEC_TIMEOUT).await?)
    }

    /// Starts a program. It is killed when the returned value is dropped.
    ///
    /// # Errors
    /// When there is no such program or it cannot be started.
    pub fn spawn(&self, program: impl Into<Program>) -> Result<Process, Error> {
        let program = program.into();
        Ok(program.spawn(self.name(), self.live()?.namespaces())?)
    }

    /// The machine, unless it was removed from its cluster.
    pub(crate) fn live(&self) -> Result<&Self, Error> {
        match self.inner.removed.load(Ordering::Acquire) {
            false => Ok(self),
            true => Err(Error::Removed {
                machine: self.name().to_owned(),
            }),
        }
    }

    /// Ends every process in it, and makes every verb on any handle an error. Its namespaces
    /// go with the last handle.
    pub(crate) fn remove(&self) {
        self.inner.removed.store(true, Ordering::Release);
        kill_all_in(&BTreeSet::from([self.namespaces().net_inode()]));
    }

    /// The log of its cluster.
    pub(crate) fn events(&self) -> &EventLog {
        &self.inner.events
    }

    /// The faults of its cluster.
    pub(crate) fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Writes an event of this machine.
    pub(crate) fn record(&self, kind: Kind) {
        self.events().record_at(self.name(), kind);
    }

    pub(crate) fn namespaces(&self) -> &Namespaces {
        &self.inner.namespaces
    }

    pub(crate) fn netlink(&self) -> &Netlink {
        &self.inner.netlink
    }
}
