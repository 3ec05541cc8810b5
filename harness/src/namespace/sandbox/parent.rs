//! The process that started this one: a run whose caller is gone has nobody to report to.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid, getsid};

/// A descriptor that becomes readable when the process has ended.
///
/// `PR_SET_PDEATHSIG` would not do: it fires when the *thread* that started us ends, and test
/// runners start programs from threads that come and go.
#[derive(Debug)]
pub(super) struct Parent(OwnedFd);

impl Parent {
    /// The caller's parent; `None` when it has none that it could outlive, is meant to outlive it
    /// (`nohup`, `setsid`), or the kernel cannot tell (before Linux 5.3).
    pub(super) fn of_this_process() -> Option<Self> {
        if getsid(None) == Ok(getpid()) || ignores_hangup() {
            return None;
        }
        let parent = getppid();
        let descriptor = open(parent).ok()?;
        // If it ended in between, its number may be another process's by now.
        (getppid() == parent).then_some(Self(descriptor))
    }
}

impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The process as a descriptor that is readable once it has ended. It is closed by `exec`.
pub(super) fn open(process: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) };
    // SAFETY: on success the call returns a new descriptor that nobody else owns.
    Errno::result(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn ignores_hangup() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only writes the present one to the valid pointer.
    let result =
        unsafe { libc::sigaction(Signal::SIGHUP as i32, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the call has succeeded, so the action is initialised.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
