//! The sandbox: the process moves into namespaces of its own before it has any thread.
//!
//! Three processes come out of [`enter`]. The *supervisor* is the one that was started; it stays
//! where it is, waits and hands on the exit code. The *init* is process 1 of the new PID
//! namespace; it reaps. The *worker* returns from `enter` and does everything else. When the
//! supervisor dies the kernel kills init, and with init every process of the sandbox, and with
//! the last process every namespace, link and mount. That holds for SIGKILL too: nothing of ours
//! has to run. The supervisor ends by itself when whoever started it has ended. At the end it looks
//! whether anything of the run is left on the host, which would be a mistake of ours, and fails the
//! run if so (`leaks`).
//!
//! Root needs no more than that. Anybody else, and root without `CAP_SYS_ADMIN`, gets a user
//! namespace around it, in which they are root; [`is_rootless`] tells.
//!
//! Tests enter through the macro [`sandbox!`](crate::sandbox!), programs by calling [`enter`]
//! first thing in `main`.

mod cgroups;
mod groups;
mod init;
mod leaks;
mod obstacle;
mod parent;
mod supervisor;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Gid, Pid, Uid};

use super::NamespaceError;
use crate::capture::TimeStamps;
use leaks::{Host, OwnNamespaces};
pub use obstacle::Obstacle;
use parent::Parent;

const OBJECT: &str = "the sandbox";

/// What the worker knows of the sandbox that it is in.
struct Sandbox {
    /// The folder on the sandbox's own tmpfs where clusters keep their state.
    state_dir: PathBuf,
    rootless: bool,
    /// The process id that process 1 has where the sandbox was entered from.
    init_outside: Option<u32>,
    /// On from before the first packet, so that the first capture's times can be compared.
    _time_stamps: TimeStamps,
}

/// The ids that the caller has outside.
#[derive(Debug, Clone, Copy)]
struct Ids {
    user: Uid,
    group: Gid,
}

impl Ids {
    fn of_this_process() -> Self {
        Self {
            user: Uid::effective(),
            group: Gid::effective(),
        }
    }
}

/// Set once, in the worker.
static SANDBOX: OnceLock<Sandbox> = OnceLock::new();

/// Why the sandbox could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The caller may not make namespaces here.
    #[error(
        "cannot enter a sandbox: user id {uid} may not make namespaces: {obstacle} \
         ({operation}: {reason})\nhint: {}",
        .obstacle.hint()
    )]
    Blocked {
        /// The effective user id.
        uid: u32,
        /// What is in the way.
        obstacle: Obstacle,
        /// What was tried.
        operation: &'static str,
        /// What the kernel said. No source of this error: the hint is to come last.
        reason: io::Error,
    },
    /// Threads would stay behind in the host's namespaces.
    #[error(
        "cannot enter a sandbox: the process has {threads} threads already\n\
         hint: call podlab::sandbox::enter() first thing in main, before any runtime is built"
    )]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// Something that needs the sandbox was called outside of it.
    #[error(
        "not in a sandbox: clusters boot only in namespaces of their own\n\
         hint: put `podlab::sandbox!();` into the test crate, or call podlab::sandbox::enter() \
         first thing in main"
    )]
    Outside,
    /// A system call failed.
    #[error("cannot enter a sandbox: {0}")]
    System(#[from] NamespaceError),
}

/// Moves the calling process into fresh mount, network, PID, UTS and IPC namespaces, and into a
/// user namespace where it may not make them otherwise.
///
/// Returns in the worker only. A second call does nothing. The sandbox has `/run` on a tmpfs of
/// its own, `/proc` and `/sys` of its own namespaces, and `lo` up.
///
/// The sandbox ends when the process that started this one ends, unless the caller is to outlive
/// it: SIGHUP is ignored (`nohup`) or the caller leads its session (`setsid`).
///
/// # Errors
/// [`SandboxError::Blocked`] says what keeps the caller from making namespaces and how to change
/// that; [`SandboxError::Threads`]; [`SandboxError::System`] names any other system call that
/// failed. Nothing of the caller has changed then, but it may be another process than the one
/// that called: end it.
pub fn enter() -> Result<(), SandboxError> {
    if SANDBOX.get().is_some() {
        return Ok(());
    }
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(SandboxError::Threads { threads });
    }
    let parent = Parent::of_this_process();
    // The write end stays with the supervisor: its end tells init that the supervisor is gone, and
    // a byte that init may begin.
    let (begin, keep) = nix::unistd::pipe2(OFlag::O_CLOEXEC)
        .map_err(|errno| NamespaceError::new("pipe", OBJECT, errno))?;
    // Of what is inherited from here everything that the run starts can be told.
    let before = Host::mark_and_look();
    let ids = Ids::of_this_process();
    let (side, rootless) = fork_into_namespaces(ids)?;
    match side {
        ForkResult::Parent { child } => {
            let namespaces = OwnNamespaces::of(child);
            // Not before: a short run has ended before a busy machine comes back to this process,
            // and a process that has ended has no namespaces to be looked at.
            nix::unistd::write(&keep, &[1]).ok();
            // Not before: the signal of a pipe that nobody reads would end this process.
            drop(begin);
            supervisor::run(child, parent.as_ref(), keep, &before, &namespaces)
        }
        ForkResult::Child => {
            drop((keep, parent));
            init::run(&begin, ids, rootless)
        }
    }
}

/// [`enter`] for [`sandbox!`](crate::sandbox!): on failure prints the error and ends the process.
///
/// A process that only lists its tests (`--list`) stays where it is.
#[doc(hidden)]
pub fn enter_or_exit() {
    if std::env::args_os().any(|argument| argument == "--list") {
        return;
    }
    if let Err(error) = enter() {
        eprintln!("podlab: {error}");
        exit(1);
    }
}

/// Whether the calling process is in a sandbox that has a user namespace of its own.
///
/// What asks for privileges on the *host* fails there (`EPERM`), whatever the process's user id
/// inside: to load BPF programs, to raise limits, to load modules.
pub fn is_rootless() -> bool {
    SANDBOX.get().is_some_and(|sandbox| sandbox.rootless)
}

/// The folder on the sandbox's tmpfs where clusters keep their state.
pub(crate) fn state_dir() -> Result<&'static Path, SandboxError> {
    SANDBOX
        .get()
        .map(|sandbox| sandbox.state_dir.as_path())
        .ok_or(SandboxError::Outside)
}

/// The process id that process 1 of the sandbox has outside of it: for commands that are typed
/// there. `None` outside of a sandbox, or where the caller's `/proc` did not show it.
pub(crate) fn init_outside() -> Option<u32> {
    SANDBOX.get()?.init_outside
}

/// Forks; the child is process 1 of the sandbox's namespaces. The flag says whether these include
/// a user namespace.
fn fork_into_namespaces(ids: Ids) -> Result<(ForkResult, bool), SandboxError> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    if ids.user.is_root() {
        match fork_with(namespaces) {
            Ok(side) => return Ok((side, false)),
            // Root of a container that has taken CAP_SYS_ADMIN away is an ordinary user.
            Err(Errno::EPERM) => {}
            Err(errno) => return Err(blocked(NamespaceError::new("clone", OBJECT, errno), ids)),
        }
    }
    match fork_with(namespaces | CloneFlags::CLONE_NEWUSER) {
        Ok(side) => Ok((side, true)),
        Err(errno) => Err(blocked(NamespaceError::new("clone", OBJECT, errno), ids)),
    }
}

/// `fork(2)` into new namespaces. The process must have one thread.
fn fork_with(namespaces: CloneFlags) -> Result<ForkResult, Errno> {
    let flags = i64::from(namespaces.bits()) | i64::from(libc::SIGCHLD);
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM and with no stack of its own this is fork(2): the child goes on
    // with a copy of everything. There is one thread (the caller has made sure), so the copy is
    // consistent. The C library does not know of the child: it forks the worker by itself before
    // anything that needs more of the library than system calls happens.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    Errno::result(result).map(|pid| match pid {
        0 => ForkResult::Child,
        // Process ids have at most 22 bits.
        pid => ForkResult::Parent {
            child: Pid::from_raw(pid as libc::pid_t),
        },
    })
}

/// The error for a call that failed on the way in, with what was in its way.
fn blocked(error: NamespaceError, ids: Ids) -> SandboxError {
    match Obstacle::find(Path::new("/"), &error.source) {
        Obstacle::Unknown if error.source.kind() != io::ErrorKind::PermissionDenied => error.into(),
        obstacle => SandboxError::Blocked {
            uid: ids.user.as_raw(),
            obstacle,
            operation: error.operation,
            reason: error.source,
        },
    }
}

/// Ends the process at once: no destructors or exit handlers of a half-started program run.
fn exit(code: i32) -> ! {
    // SAFETY: _exit takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Makes a test crate enter the sandbox before its first test, and before any thread exists.
///
/// ```no_run
/// podlab::sandbox!();
///
/// #[test]
/// fn a_test_has_a_network_of_its_own() {
///     assert_eq!(std::process::id(), 2);
/// }
/// ```
#[macro_export]
macro_rules! sandbox {
    () => {
        #[$crate::__private::ctor::ctor(unsafe, crate_path = $crate::__private::ctor)]
        fn podlab_enter_sandbox() {
            $crate::sandbox::enter_or_exit();
        }
    };
}
