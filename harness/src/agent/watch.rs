//! Watches an agent's process: one that ends though nobody asked it to is told in the event log.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use crate::event::Kind;
use crate::machine::Machine;

/// Ends with the value; what happens afterwards nobody tells.
pub(super) struct Watch {
    asked: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Watch {
    /// Begins to watch the process, which must be our child and not waited for yet.
    pub(super) fn start(process: u32, machine: &Machine) -> io::Result<Self> {
        // SAFETY: the descriptor is owned, gives out the same number each time, and stays open
        // until the AsyncFd drops it.
        let process =
            unsafe { AsyncFd::register_with_interest(open(process)?, Interest::READABLE) }
                .map_err(io::Error::from)?;
        let asked = Arc::new(AtomicBool::new(false));
        let (was_asked, log) = (Arc::clone(&asked), machine.events().clone());
        // Not the machine itself: its namespaces must not live as long as a task.
        let name = machine.name().to_owned();
        let mut task = JoinSet::new();
        task.spawn(async move {
            if process.readable().await.is_err() || was_asked.load(Ordering::Acquire) {
                return;
            }
            let status = status(process.get_ref());
            log.record_at(name, Kind::AgentDied { status });
        });
        Ok(Self { asked, _task: task })
    }

    /// From now on its end is no surprise.
    pub(super) fn end_is_expected(&self) {
        self.asked.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

/// A descriptor that becomes readable when the process ends, `pidfd_open(2)`.
fn open(process: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let fd = Errno::result(result)?;
    // SAFETY: the kernel has just made the descriptor (close-on-exec always) and nobody else has
    // it; descriptors are small integers.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// How it ended, in the words of the standard library. The process stays a child to be waited for.
fn status(process: &OwnedFd) -> String {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    let raw = match waitid(Id::PIDFd(process.as_fd()), flags) {
        Ok(WaitStatus::Exited(_, code)) => code << 8,
        Ok(WaitStatus::Signaled(_, signal, _)) => signal as i32,
        // Somebody has waited for it already.
        _ => return "waited for already".to_owned(),
    };
    ExitStatus::from_raw(raw).to_string()
}
