//! The process that was started: it stays outside, waits, and hands on the exit code.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::exit;
use super::leaks::{Host, OwnNamespaces};
use super::parent::{self, Parent};

/// The exit code of a run that has left something on the host, if it would have succeeded.
const LEAKED: i32 = 86;

/// Waits for init and ends with its exit code, or at once when the parent has ended: the kernel
/// kills init then. `_keep` is open until then. What the run has left behind is told, and makes it
/// a failure.
pub(super) fn run(
    init: Pid,
    parent: Option<&Parent>,
    _keep: OwnedFd,
    before: &Host,
    namespaces: &OwnNamespaces,
) -> ! {
    if let Some(parent) = parent
        && !outlived_by(init, parent)
    {
        exit(1);
    }
    let code = exit_code_of(init);
    let leaks = before.left_by(namespaces);
    if leaks.is_empty() {
        exit(code);
    }
    eprintln!("podlab: this run has left something behind on the host:");
    for leak in leaks {
        eprintln!("podlab:   {leak}");
    }
    exit(if code == 0 { LEAKED } else { code })
}

/// Waits until one of the two has ended; false when it was the parent, and only the parent.
fn outlived_by(init: Pid, parent: &Parent) -> bool {
    // Whoever cannot watch init just waits for it.
    let Ok(init) = parent::open(init) else {
        return true;
    };
    let mut ends = [init.as_fd(), parent.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        match poll(&mut ends, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(_) => return true,
            Ok(_) => return ends[0].any() == Some(true),
        }
    }
}

/// Reaps children until `process` ends, and returns its exit code in the shell's convention.
pub(super) fn exit_code_of(process: Pid) -> i32 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == process => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == process => {
                return 128 + signal as i32;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}
