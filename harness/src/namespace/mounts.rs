//! What a machine sees of the file system: its own `/run`, `/sys` and a few files of `/etc`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::{NamespaceError, fd_path};

/// A file or folder of the sandbox that the machine sees at another place.
#[derive(Debug, Clone)]
pub(crate) struct BindMount {
    /// Where it is now.
    pub(crate) source: PathBuf,
    /// Where the machine sees it. Below `/run` it is made; anywhere else it must exist, and a
    /// host that lacks it (a minimal image without `/etc/nsswitch.conf`) is left as it is.
    pub(crate) target: PathBuf,
}

/// The folder for temporary files, the same in the sandbox and in all of its machines. On the
/// host's a killed run would leave them behind.
pub(super) const TEMPORARY: &str = "/run/tmp";

/// The mounts of one machine, applied in its new mount namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct MountPlan {
    /// What to bind, after `/run` and `/sys` are the machine's own.
    pub(crate) binds: Vec<BindMount>,
}

impl MountPlan {
    /// Applies the plan to the calling thread's mount namespace, which must be a fresh copy.
    pub(super) fn apply(&self, object: &str) -> Result<(), NamespaceError> {
        // The sources may lie below /run, which the next mount covers: hold them open first.
        let sources = self
            .binds
            .iter()
            .map(|bind| open_path(&bind.source, object))
            .collect::<Result<Vec<OwnedFd>, _>>()?;
        let temporary = BindMount {
            source: TEMPORARY.into(),
            target: TEMPORARY.into(),
        };
        let temporary_source = open_path(&temporary.source, object)?;
        mount_new("tmpfs", Path::new("/run"), object)?;
        temporary.apply(&temporary_source, object)?;
        // A sysfs shows the network devices of the namespace it was mounted from.
        mount_new("sysfs", Path::new("/sys"), object)?;
        for (bind, source) in self.binds.iter().zip(&sources) {
            bind.apply(source, object)?;
        }
        Ok(())
    }
}

impl BindMount {
    fn apply(&self, source: &OwnedFd, object: &str) -> Result<(), NamespaceError> {
        if self.target.starts_with("/run") {
            std::fs::create_dir_all(&self.target)
                .map_err(|source| NamespaceError::new("make a mount point", object, source))?;
        }
        let none: Option<&str> = None;
        match mount(
            Some(fd_path(source.as_fd()).as_str()),
            &self.target,
            none,
            MsFlags::MS_BIND,
            none,
        ) {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) if !self.target.starts_with("/run") => Ok(()),
            Err(errno) => Err(NamespaceError::new(
                "bind mount",
                &format!("{object}:{}", self.target.display()),
                errno,
            )),
        }
    }
}

fn open_path(path: &Path, object: &str) -> Result<OwnedFd, NamespaceError> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| {
        NamespaceError::new("open", &format!("{object}:{}", path.display()), errno)
    })
}

/// Mounts a new instance of `kind` over `target`; no programs can be run from there.
pub(super) fn mount_new(kind: &str, target: &Path, object: &str) -> Result<(), NamespaceError> {
    mount_with(kind, target, MsFlags::MS_NOEXEC, object)
}

/// Makes the folder for temporary files, from which programs can be run as anywhere else.
pub(super) fn mount_temporary(object: &str) -> Result<(), NamespaceError> {
    std::fs::create_dir(TEMPORARY)
        .map_err(|source| NamespaceError::new("make a mount point", object, source))?;
    // Everybody may write there, which is the default of this file system.
    mount_with("tmpfs", Path::new(TEMPORARY), MsFlags::empty(), object)
}

fn mount_with(
    kind: &str,
    target: &Path,
    flags: MsFlags,
    object: &str,
) -> Result<(), NamespaceError> {
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let none: Option<&str> = None;
    mount(Some(kind), target, Some(kind), flags, none).map_err(|errno| {
        NamespaceError::new("mount", &format!("{object}:{}", target.display()), errno)
    })
}

/// Cuts the calling process's mounts off from the host's: nothing mounted here shows there.
pub(super) fn make_private(object: &str) -> Result<(), NamespaceError> {
    let none: Option<&str> = None;
    mount(
        none,
        Path::new("/"),
        none,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        none,
    )
    .map_err(|errno| NamespaceError::new("make all mounts private", object, errno))
}

/// Makes a file system that is mounted nowhere yet, for the calling thread's mount namespace;
/// returns a descriptor on its root. No programs can be run from there.
pub(crate) fn mounted_nowhere(kind: &str, options: &[(&str, String)]) -> io::Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        fsconfig_set_string(&context, *name, value.as_str())?;
    }
    fsconfig_create(&context)?;
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok(root)
}

/// An empty tmpfs that is mounted nowhere yet, of at most `size` bytes if one is given.
pub(super) fn detached(size: Option<u64>, object: &str) -> Result<OwnedFd, NamespaceError> {
    let mut options = vec![("mode", "755".to_owned())];
    options.extend(size.map(|size| ("size", size.to_string())));
    mounted_nowhere("tmpfs", &options)
        .map_err(|error| NamespaceError::new("make a tmpfs", object, error))
}

/// Mounts over `target`, in the calling thread's mount namespace, what was mounted nowhere.
pub(super) fn cover(target: &Path, with: &OwnedFd, object: &str) -> Result<(), NamespaceError> {
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(with, "", CWD, target, whole)
        .map_err(|errno| NamespaceError::new("mount", object, errno))
}

/// Takes the last mount from `target` in the calling thread's mount namespace.
pub(super) fn uncover(target: &Path, object: &str) -> Result<(), NamespaceError> {
    umount2(target, MntFlags::MNT_DETACH)
        .map_err(|errno| NamespaceError::new("unmount", object, errno))
}
