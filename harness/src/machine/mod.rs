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
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

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
    /// Others than before once it was switched off and on again.
    kernel: RwLock<Kernel>,
    events: EventLog,
    /// The faults of its cluster.
    faults: Faults,
}

#[derive(Debug, Clone)]
struct Kernel {
    namespaces: Namespaces,
    netlink: Netlink,
    power: Power,
}

/// Whether there is a machine behind the handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// It crashed, and may come back.
    Off,
    /// Its node or pod was removed from the cluster.
    Removed,
}

impl Kernel {
    fn start(name: &str, namespaces: Namespaces, forwarding: bool) -> Result<Self, Error> {
        sysctl::set_defaults(&namespaces, name, forwarding)?;
        let netlink = Netlink::connect(&namespaces, name)?;
        Ok(Self {
            namespaces,
            netlink,
            power: Power::On,
        })
    }
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
        let kernel = Kernel::start(name, namespaces, forwarding)?;
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                kernel: RwLock::new(kernel),
                events,
                faults,
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
        let program = program.into();
        let (line, begin) = (program.line(), Instant::now());
        let output = self.spawn(program)?.wait(EXEC_TIMEOUT).await?;
        self.record(Kind::ProgramEnded {
            program: line,
            status: output.status.to_string(),
            after: begin.elapsed(),
        });
        Ok(output)
    }

    /// [`exec`](Self::exec) of which the event log hears nothing: for the harness's own questions.
    pub(crate) async fn quiet_exec(&self, program: impl Into<Program>) -> Result<Output, Error> {
        Ok(self.quiet_spawn(program)?.wait(EXEC_TIMEOUT).await?)
    }

    /// Starts a program. It is killed when the returned value is dropped.
    ///
    /// # Errors
    /// When there is no such program or it cannot be started.
    pub fn spawn(&self, program: impl Into<Program>) -> Result<Process, Error> {
        let program = program.into();
        let line = program.line();
        let process = self.quiet_spawn(program)?;
        self.record(Kind::ProgramStarted {
            pid: process.id(),
            program: line,
        });
        Ok(process)
    }

    /// [`spawn`](Self::spawn) of which the event log hears nothing.
    pub(crate) fn quiet_spawn(&self, program: impl Into<Program>) -> Result<Process, Error> {
        let program = program.into();
        Ok(program.spawn(self.name(), &self.live()?.namespaces())?)
    }

    /// The machine, unless it was removed from its cluster or has crashed.
    pub(crate) fn live(&self) -> Result<&Self, Error> {
        let machine = || self.name().to_owned();
        match self.kernel().power {
            Power::On => Ok(self),
            Power::Off => Err(Error::Crashed { machine: machine() }),
            Power::Removed => Err(Error::Removed { machine: machine() }),
        }
    }

    /// Ends every process in it, and makes every verb on any handle an error. Its namespaces
    /// go with the last handle.
    pub(crate) fn remove(&self) {
        self.kernel_mut().power = Power::Removed;
        self.kill_processes();
    }

    /// Switches it off: every process ends, and every verb is an error until it is
    /// [on](Self::switch_on) again.
    pub(crate) fn switch_off(&self) {
        let mut kernel = self.kernel_mut();
        if kernel.power == Power::On {
            kernel.power = Power::Off;
        }
        drop(kernel);
        self.kill_processes();
    }

    /// Starts it anew in fresh namespaces, with `lo` down; nothing of its former life is there.
    /// One that was removed meanwhile stays away.
    pub(crate) fn switch_on(&self, namespaces: Namespaces) -> Result<(), Error> {
        let new = Kernel::start(self.name(), namespaces, false)?;
        let mut kernel = self.kernel_mut();
        if kernel.power == Power::Off {
            *kernel = new;
        }
        Ok(())
    }

    fn kill_processes(&self) {
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

    /// Those of its present life.
    pub(crate) fn namespaces(&self) -> Namespaces {
        self.kernel().namespaces.clone()
    }

    /// A connection into its present life.
    pub(crate) fn netlink(&self) -> Netlink {
        self.kernel().netlink.clone()
    }

    fn kernel(&self) -> RwLockReadGuard<'_, Kernel> {
        let kernel = self.inner.kernel.read();
        kernel.unwrap_or_else(PoisonError::into_inner)
    }

    fn kernel_mut(&self) -> RwLockWriteGuard<'_, Kernel> {
        let kernel = self.inner.kernel.write();
        kernel.unwrap_or_else(PoisonError::into_inner)
    }
}
