//! Process 1 of the sandbox: makes it a place to work in, starts the worker, and reaps.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, fork, read};

use super::super::NamespaceError;
use super::super::mounts::{TEMPORARY, make_private, mount_new, mount_temporary};
use super::supervisor::exit_code_of;
use super::{Ids, OBJECT, SANDBOX, Sandbox, SandboxError, blocked, exit, groups};
use crate::capture::TimeStamps;

/// Returns in the worker. The supervisor writes a byte to `begin` when it is ready, and has the
/// other end for as long as it lives. `ids` are the caller's; `rootless` says that the namespaces
/// include a user namespace.
pub(super) fn run(begin: &OwnedFd, ids: Ids, rootless: bool) -> Result<(), SandboxError> {
    begin_and_end_with(begin)?;
    // Before `/proc` is our own: the caller's shows this process under its number outside.
    let outside = std::fs::read_link("/proc/self").ok();
    let identity = if rootless { become_root(ids) } else { Ok(()) };
    let furnished = identity.and_then(|()| furnish());
    furnished.map_err(|error| blocked(error, ids))?;
    let state_dir = PathBuf::from("/run/podlab");
    std::fs::create_dir(&state_dir)
        .map_err(|source| NamespaceError::new("make the state folder", OBJECT, source))?;
    // SAFETY: init has one thread; the child's memory is consistent.
    match unsafe { fork() }.map_err(|errno| NamespaceError::new("fork", OBJECT, errno))? {
        ForkResult::Parent { child } => exit(exit_code_of(child)),
        ForkResult::Child => {
            let time_stamps = TimeStamps::switch_on().map_err(|source| {
                NamespaceError::new("switch packet time stamps on", OBJECT, source)
            })?;
            // SAFETY: this process has one thread.
            unsafe { std::env::set_var("TMPDIR", TEMPORARY) };
            // Nobody else can have set it: this process has had one thread all along.
            SANDBOX.get_or_init(|| Sandbox {
                state_dir,
                rootless,
                init_outside: outside.and_then(|link| link.to_str()?.parse().ok()),
                _time_stamps: time_stamps,
            });
            Ok(())
        }
    }
}

/// Waits for the supervisor to be ready. From then on the kernel kills this process when the
/// supervisor ends.
fn begin_and_end_with(supervisor: &OwnedFd) -> Result<(), NamespaceError> {
    prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| NamespaceError::new("prctl", OBJECT, errno))?;
    while read(supervisor, &mut [0]) == Err(Errno::EINTR) {}
    // It may have died before the first line, with or without having written; then no signal comes.
    let mut fds = [PollFd::new(supervisor.as_fd(), PollFlags::empty())];
    if poll(&mut fds, PollTimeout::ZERO).unwrap_or(0) > 0 {
        exit(1);
    }
    Ok(())
}

/// Makes the calling process, which is in a new user namespace and nobody there, its root.
fn become_root(ids: Ids) -> Result<(), NamespaceError> {
    let write = |file: &str, text: &str| {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, text).map_err(|source| NamespaceError::new("write", &path, source))
    };
    // Who may not change groups outside may not drop them inside either.
    write("setgroups", "deny")?;
    write("uid_map", &format!("0 {} 1", ids.user))?;
    write("gid_map", &format!("0 {} 1", ids.group))?;
    groups::pretend_to_set()
        .map_err(|source| NamespaceError::new("install a system call filter", OBJECT, source))
}

/// Gives the sandbox file systems that show its own namespaces, and a loopback device.
fn furnish() -> Result<(), NamespaceError> {
    make_private(OBJECT)?;
    mount_new("proc", Path::new("/proc"), OBJECT)?;
    mount_new("sysfs", Path::new("/sys"), OBJECT)?;
    mount_new("tmpfs", Path::new("/run"), OBJECT)?;
    mount_temporary(OBJECT)?;
    loopback_up()
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
