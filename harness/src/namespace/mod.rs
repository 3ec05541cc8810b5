//! Network, UTS and mount namespaces, held by file descriptors only.
//!
//! Nothing here has a name on the host: a namespace lives as long as a descriptor or a process
//! holds it, so the kernel takes it down whatever happens to us.
//!
//! Invariant: this folder is the only place that calls `setns` and `unshare`. Everybody else
//! hands a closure to [`Namespaces::run`] or starts a program with [`Namespaces::enter_child`].

mod mounts;
mod ordinary_user;
pub mod sandbox;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};

pub(crate) use mounts::{BindMount, MountPlan, mounted_nowhere};
pub(crate) use ordinary_user::try_as_ordinary_user;

/// Why a namespace could not be made or entered.
#[derive(Debug, thiserror::Error)]
#[error("{operation} for {object}: {source}{}", hint_for(.source))]
pub struct NamespaceError {
    /// What was tried, for example `unshare`.
    pub operation: &'static str,
    /// The machine or path it was tried for.
    pub object: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl NamespaceError {
    fn new(operation: &'static str, object: &str, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            object: object.to_owned(),
            source: source.into(),
        }
    }
}

fn hint_for(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(nix::libc::EPERM) => "\nhint: namespaces need CAP_SYS_ADMIN: run as root or with sudo",
        Some(nix::libc::ENOSPC) => {
            "\nhint: the kernel's limit is reached: see the sysctls user.max_*_namespaces"
        }
        _ => "",
    }
}

/// The namespaces of one machine: network, UTS and mount. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    net: OwnedFd,
    uts: OwnedFd,
    mnt: OwnedFd,
    net_inode: u64,
}

impl Namespaces {
    /// Makes fresh namespaces whose hostname is `hostname` and whose mounts follow `mounts`.
    ///
    /// Blocks for about a millisecond: the kernel makes network namespaces one at a time.
    pub(crate) fn create(hostname: &str, mounts: &MountPlan) -> Result<Self, NamespaceError> {
        // A thread of its own: its namespaces leave the process with it, the descriptors stay.
        on_fresh_thread(hostname, || {
            let own_inode = current_net_inode(hostname)?;
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS)
                .map_err(|errno| NamespaceError::new("unshare", hostname, errno))?;
            nix::unistd::sethostname(hostname)
                .map_err(|errno| NamespaceError::new("sethostname", hostname, errno))?;
            mounts.apply(hostname)?;
            let open = |kind: &str| {
                File::open(format!("/proc/thread-self/ns/{kind}")).map_err(|source| {
                    NamespaceError::new("open the new namespace", hostname, source)
                })
            };
            let net = open("net")?;
            let net_inode = inode_of(&net, hostname)?;
            if net_inode == own_inode {
                // Whatever we would do next, we would do it to the caller's network.
                return Err(NamespaceError::new(
                    "unshare",
                    hostname,
                    io::Error::other("the new network namespace is the caller's own"),
                ));
            }
            Ok(Self {
                inner: Arc::new(Inner {
                    name: hostname.to_owned(),
                    net: net.into(),
                    uts: open("uts")?.into(),
                    mnt: open("mnt")?.into(),
                    net_inode,
                }),
            })
        })
    }

    /// Runs `f` on a short-lived thread inside the network namespace and returns its value.
    ///
    /// A socket made by `f` stays in the namespace and is driven from outside afterwards; paths
    /// under `/proc/sys/net` follow the thread too. Mounts and hostname stay the caller's.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_fresh_thread(&self.inner.name, || {
            setns(&self.inner.net, CloneFlags::CLONE_NEWNET)
                .map_err(|errno| NamespaceError::new("setns", &self.inner.name, errno))?;
            Ok(f())
        })
    }

    /// Runs `f` on a short-lived thread inside the mount namespace and returns its value.
    ///
    /// Paths are the machine's there. A descriptor that `f` opens stays in the machine's file
    /// system, and is good everywhere afterwards, also by `/proc/self/fd`.
    pub(crate) fn in_mounts<T: Send>(
        &self,
        f: impl FnOnce() -> T + Send,
    ) -> Result<T, NamespaceError> {
        on_fresh_thread(&self.inner.name, || {
            // The threads of a process share root and working directory, which a thread must not
            // when it goes to other mounts.
            unshare(CloneFlags::CLONE_FS)
                .map_err(|errno| NamespaceError::new("unshare", &self.inner.name, errno))?;
            setns(&self.inner.mnt, CloneFlags::CLONE_NEWNS)
                .map_err(|errno| NamespaceError::new("setns", &self.inner.name, errno))?;
            Ok(f())
        })
    }

    /// Lays a tmpfs over `target` in the machine, of at most `size` bytes if one is given; returns
    /// a descriptor on its root. `fill` is given its path and runs before anybody in the machine
    /// can see it.
    pub(crate) fn cover(
        &self,
        target: &Path,
        size: Option<u64>,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<OwnedFd, NamespaceError> {
        let object = format!("{}:{}", self.inner.name, target.display());
        let root = self.in_mounts(|| mounts::detached(size, &object))??;
        fill(Path::new(&fd_path(root.as_fd())))
            .map_err(|source| NamespaceError::new("fill a tmpfs for", &object, source))?;
        self.in_mounts(|| mounts::cover(target, &root, &object))??;
        Ok(root)
    }

    /// Takes the last mount from `target` in the machine. Who has files open there keeps them.
    pub(crate) fn uncover(&self, target: &Path) -> Result<(), NamespaceError> {
        let object = format!("{}:{}", self.inner.name, target.display());
        self.in_mounts(|| mounts::uncover(target, &object))?
    }

    /// Makes `command` start inside all of the namespaces.
    pub(crate) fn enter_child(&self, command: &mut std::process::Command) {
        let inner = Arc::clone(&self.inner);
        let enter = move || {
            // The mount namespace comes last: `/proc` of the caller is not needed after it.
            setns(&inner.uts, CloneFlags::CLONE_NEWUTS)?;
            setns(&inner.net, CloneFlags::CLONE_NEWNET)?;
            setns(&inner.mnt, CloneFlags::CLONE_NEWNS)?;
            // A shell starts what runs in its background without it, and that is inherited: the
            // program would not end on SIGINT.
            // SAFETY: no handler is put in place, so none can be wrong.
            unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes four system calls, three of them on
        // descriptors that the Arc keeps open; it neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(enter);
        }
    }

    /// The descriptor of the network namespace, as netlink wants it.
    pub(crate) fn net_fd(&self) -> RawFd {
        self.inner.net.as_fd().as_raw_fd()
    }

    /// The descriptors of the network, UTS and mount namespace in this process.
    pub(crate) fn fds(&self) -> [(&'static str, RawFd); 3] {
        let Inner { net, uts, mnt, .. } = &*self.inner;
        let fd = |fd: &OwnedFd| fd.as_raw_fd();
        [("net", fd(net)), ("uts", fd(uts)), ("mount", fd(mnt))]
    }

    /// The inode that identifies the network namespace on this kernel.
    pub(crate) fn net_inode(&self) -> u64 {
        self.inner.net_inode
    }
}

/// Runs `f` on a thread that nobody else uses, so that what it does to its namespaces ends with it.
fn on_fresh_thread<T: Send>(
    object: &str,
    f: impl FnOnce() -> Result<T, NamespaceError> + Send,
) -> Result<T, NamespaceError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("podlab-ns".to_owned())
            .spawn_scoped(scope, f)
            .map_err(|source| NamespaceError::new("start a thread", object, source))?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn current_net_inode(object: &str) -> Result<u64, NamespaceError> {
    let file = File::open("/proc/thread-self/ns/net")
        .map_err(|source| NamespaceError::new("open /proc/thread-self/ns/net", object, source))?;
    inode_of(&file, object)
}

fn inode_of(file: &File, object: &str) -> Result<u64, NamespaceError> {
    file.metadata()
        .map(|metadata| metadata.ino())
        .map_err(|source| NamespaceError::new("stat a namespace", object, source))
}

/// A borrowed descriptor as the path that `mount(2)` takes.
fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}
