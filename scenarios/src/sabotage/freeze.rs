//! Stops the loop of an agent and nothing else of it.
//!
//! SIGSTOP would stop the whole process, and with the backend `userspace` the threads that carry
//! packets. A tracer (ptrace(2)) stops one thread: the first one, which is the agent's loop.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A thread that stands still until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    thaw: Option<Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Frozen {
    /// Stops the first thread of the process; it stands still when this returns.
    ///
    /// # Errors
    /// When the process may not be traced, or is gone.
    pub fn freeze(process: u32) -> Result<Self> {
        let process = Pid::from_raw(process.cast_signed());
        let (thaw, until) = channel::<()>();
        let (report, stopped) = channel();
        // A thread is traced by a thread: this one lives as long as the other stands still.
        let tracer = std::thread::Builder::new()
            .name("freeze".to_owned())
            .spawn(move || {
                let result = stop(process);
                let held = result.is_ok();
                report.send(result).ok();
                if held {
                    // Ends when the other side is dropped.
                    until.recv().ok();
                    ptrace::detach(process, None).ok();
                }
            })
            .context("start a thread")?;
        stopped.recv().context("the tracer ended")??;
        Ok(Self {
            thaw: Some(thaw),
            tracer: Some(tracer),
        })
    }
}

fn stop(process: Pid) -> Result<()> {
    ptrace::seize(process, ptrace::Options::empty()).context("seize the agent's loop")?;
    ptrace::interrupt(process).context("interrupt the agent's loop")?;
    match waitpid(process, Some(WaitPidFlag::__WALL)).context("wait for the agent's loop")? {
        WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => Ok(()),
        other => bail!("the agent did not stop: {other:?}"),
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.thaw.take());
        if let Some(tracer) = self.tracer.take() {
            tracer.join().ok();
        }
    }
}
