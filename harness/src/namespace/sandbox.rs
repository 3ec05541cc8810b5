//! The sandbox: the process moves into namespaces of its own before it has any thread.
//!
//! Three processes come out of [`enter`]. The *supervisor* is the one that was started; it waits
//! and hands on the exit code. The *init* is process 1 of the new PID namespace; it reaps. The
//! *worker* returns from `enter` and does everything else. When the supervisor dies the kernel
//! kills init, and with init every process of the sandbox, and with the last process every
//! namespace, link and mount. That holds for SIGKILL too: nothing of ours has to run.
//!
//! Tests enter through the macro [`sandbox!`](crate::sandbox!), programs by calling [`enter`]
//! first thing in `main`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, fork};

use super::NamespaceError;
use super::mounts::{make_private, mount_new};
use crate::capture::TimeStamps;

const OBJECT: &str = "the sandbox";

/// Set once in the worker; the state folder lies on the sandbox's own tmpfs.
static STATE_DIR: OnceLock<PathBuf> = OnceLock::new();

/// On from before the first packet, so that the first capture's times can be compared.
static TIME_STAMPS: OnceLock<TimeStamps> = OnceLock::new();

/// Why the sandbox could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The caller may not make namespaces.
    #[error(
        "cannot enter a sandbox: user id {uid} may not make namespaces\n\
         hint: run as root, for example `sudo make e2e`"
    )]
    NoPrivilege {
        /// The effective user id.
        uid: u32,
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

/// Moves the calling process into fresh mount, network, PID, UTS and IPC namespaces.
///
/// Returns in the worker only. A second call does nothing. The sandbox has `/run` on a tmpfs of
/// its own, `/proc` and `/sys` of its own namespaces, and `lo` up.
///
/// # Errors
/// [`SandboxError::NoPrivilege`] and [`SandboxError::Threads`] before anything has changed;
/// [`SandboxError::System`] names the system call that failed.
pub fn enter() -> Result<(), SandboxError> {
    if STATE_DIR.get().is_some() {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        return Err(SandboxError::NoPrivilege {
            uid: Uid::effective().as_raw(),
        });
    }
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(SandboxError::Threads { threads });
    }
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .map_err(|errno| NamespaceError::new("unshare", OBJECT, errno))?;
    make_private(OBJECT)?;
    // The write end stays with the supervisor: its end tells init that the supervisor is gone.
    let (alive, keep) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|errno| NamespaceError::new("pipe", OBJECT, errno))?;
    // SAFETY: the process has one thread (checked above), so the child's memory is consistent.
    match unsafe { fork() }.map_err(|errno| NamespaceError::new("fork", OBJECT, errno))? {
        ForkResult::Parent { child } => {
            drop(alive);
            supervise(child, keep)
        }
        ForkResult::Child => {
            drop(keep);
            init(&alive)
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

/// The folder on the sandbox's tmpfs where clusters keep their state.
pub(crate) fn state_dir() -> Result<&'static Path, SandboxError> {
    STATE_DIR
        .get()
        .map(PathBuf::as_path)
        .ok_or(SandboxError::Outside)
}

/// Waits for init and ends with its exit code. `_keep` is open until then.
fn supervise(init: Pid, _keep: OwnedFd) -> ! {
    exit(exit_code_of(init))
}

/// Process 1 of the sandbox: starts the worker, which returns, and reaps until it ends.
fn init(supervisor: &OwnedFd) -> Result<(), SandboxError> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| NamespaceError::new("prctl", OBJECT, errno))?;
    // The supervisor may have died before the line above; then no signal comes.
    let mut fds = [PollFd::new(supervisor.as_fd(), PollFlags::empty())];
    if poll(&mut fds, PollTimeout::ZERO).unwrap_or(0) > 0 {
        exit(1);
    }
    mount_new("proc", Path::new("/proc"), OBJECT)?;
    mount_new("sysfs", Path::new("/sys"), OBJECT)?;
    mount_new("tmpfs", Path::new("/run"), OBJECT)?;
    let state_dir = PathBuf::from("/run/podlab");
    std::fs::create_dir(&state_dir)
        .map_err(|source| NamespaceError::new("make the state folder", OBJECT, source))?;
    loopback_up()?;
    // SAFETY: init has one thread; the child's memory is consistent.
    match unsafe { fork() }.map_err(|errno| NamespaceError::new("fork", OBJECT, errno))? {
        ForkResult::Parent { child } => exit(exit_code_of(child)),
        ForkResult::Child => {
            // Nobody else can have set it: this process has had one thread all along.
            STATE_DIR.get_or_init(|| state_dir);
            let stamps = TimeStamps::switch_on().map_err(|source| {
                NamespaceError::new("switch packet time stamps on", OBJECT, source)
            })?;
            TIME_STAMPS.get_or_init(|| stamps);
            Ok(())
        }
    }
}

/// Reaps children until `process` ends, and returns its exit code in the shell's convention.
fn exit_code_of(process: Pid) -> i32 {
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

/// Ends the process at once: no destructors or exit handlers of a half-started program run.
fn exit(code: i32) -> ! {
    // SAFETY: _exit takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Brings `lo` of the sandbox up, by ioctl: there is no runtime yet that could drive netlink.
fn loopback_up() -> Result<(), NamespaceError> {
    let failed = |errno: Errno| NamespaceError::new("bring lo up", OBJECT, errno);
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(failed)?;
    // SAFETY: ifreq is plain old data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is a valid ifreq that outlives the call; SIOCSIFFLAGS only reads it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    Errno::result(result).map(drop).map_err(failed)
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
