//! Whether an ordinary user of this kernel may do what a rootless run would do.

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// The user and group `nobody`, which every distribution has under this number.
const NOBODY: libc::c_long = 65534;

/// Makes a user and a network namespace in a child that is no longer root, which then ends.
pub(crate) fn try_as_ordinary_user() -> io::Result<()> {
    // SAFETY: until it ends the child makes system calls only; it neither allocates nor takes a
    // lock that another thread may have held at the fork.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // SAFETY: plain numbers. The system calls themselves, since libc's functions would
            // tell the threads that the fork has left behind.
            unsafe {
                // Fails for somebody who is an ordinary user already: all the better.
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
                libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY);
                libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY);
            }
            let code = match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
                Ok(()) => 0,
                Err(errno) => errno as i32,
            };
            // SAFETY: takes any value and does not return; nothing of the parent is flushed.
            unsafe { libc::_exit(code) }
        }
    };
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, code) => Err(Errno::from_raw(code).into()),
        status => Err(io::Error::other(format!("the child ended with {status:?}"))),
    }
}
