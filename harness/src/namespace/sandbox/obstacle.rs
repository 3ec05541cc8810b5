//! What keeps an unprivileged user from making namespaces, read from where the system says so.

use std::fmt;
use std::io;
use std::path::Path;

use nix::errno::Errno;

/// What is in the way of an unprivileged user who makes namespaces, and what would remove it.
///
/// Prints the cause; [`hint`](Self::hint) is the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The kernel was built without `CONFIG_USER_NS`.
    NotBuilt,
    /// Debian's switch `kernel.unprivileged_userns_clone` is off.
    CloneSwitch,
    /// AppArmor takes the privileges of a new user namespace away, as Ubuntu has it since 23.10.
    AppArmor,
    /// A limit on namespaces of a kind, `user.max_KIND_namespaces`, is 0.
    Forbidden {
        /// The kind as in the sysctl: `user`, `mnt`, `net`, `pid`, `uts` or `ipc`.
        kind: &'static str,
    },
    /// A limit on the number of namespaces, or the 32 levels that user namespaces may be deep.
    Exhausted,
    /// The process has another root directory than its mount namespace, by `chroot`.
    Chroot,
    /// A system call filter, as container runtimes and service managers install them.
    Seccomp,
    /// Something is mounted below `/proc` or `/sys`, as container runtimes do it to hide parts of
    /// them: the kernel makes no new instance that would show these.
    Masked,
    /// Nothing that is known here.
    Unknown,
}

/// The kinds of namespaces that a sandbox is made of.
const KINDS: [&str; 6] = ["user", "mnt", "net", "pid", "uts", "ipc"];

impl Obstacle {
    /// Finds out why a call was answered with `error`. `root` is the folder where `proc` is
    /// mounted.
    pub(super) fn find(root: &Path, error: &io::Error) -> Self {
        let system = System(root);
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EUSERS) => system.limit(),
            Some(Errno::EINVAL) if !system.has_user_namespaces() => Self::NotBuilt,
            // What is no mount point cannot be made private.
            Some(Errno::EINVAL) if system.is_chroot() => Self::Chroot,
            Some(Errno::EPERM) => system.refusal(),
            // Seccomp and the switches say EPERM; this is a security module's answer.
            Some(Errno::EACCES) if system.sysctl("kernel", APPARMOR) == Some(1) => Self::AppArmor,
            _ => Self::Unknown,
        }
    }

    /// What the user can do, with the command to type.
    pub fn hint(&self) -> String {
        const ROOT: &str = "or become root: `sudo make e2e`";
        match self {
            Self::NotBuilt => "become root, for example `sudo make e2e`".to_owned(),
            Self::CloneSwitch => {
                format!("allow it: `sudo sysctl -w kernel.{CLONE_SWITCH}=1`, {ROOT}")
            }
            Self::AppArmor => format!("allow it: `sudo sysctl -w kernel.{APPARMOR}=0`, {ROOT}"),
            Self::Forbidden { kind } => {
                format!("allow them: `sudo sysctl -w user.max_{kind}_namespaces=10000`, {ROOT}")
            }
            Self::Exhausted => "`sysctl -a --pattern 'user.max_.*_namespaces'` shows the limits; \
                 leave user namespaces that are nested 32 deep"
                .to_owned(),
            Self::Chroot => "run outside of the chroot, or enter it with \
                 `bwrap --dev-bind FOLDER / COMMAND`, which makes it a root of its own"
                .to_owned(),
            Self::Seccomp | Self::Masked => "start the container with `docker run --security-opt \
                 seccomp=unconfined --security-opt apparmor=unconfined --security-opt \
                 systempaths=unconfined` (podman: `--security-opt seccomp=unconfined \
                 --security-opt unmask=ALL`), or with --privileged"
                .to_owned(),
            Self::Unknown => "run as root, for example `sudo make e2e`; `unshare --user \
                 --map-root-user true` tells whether user namespaces can be made at all"
                .to_owned(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBuilt => write!(f, "this kernel has no user namespaces"),
            Self::CloneSwitch => write!(f, "kernel.{CLONE_SWITCH} is 0"),
            Self::AppArmor => write!(f, "AppArmor forbids it: kernel.{APPARMOR} is 1"),
            Self::Forbidden { kind } => write!(f, "user.max_{kind}_namespaces is 0"),
            Self::Exhausted => write!(f, "a limit on namespaces is reached"),
            Self::Chroot => write!(f, "the process is in a chroot"),
            Self::Seccomp => write!(f, "a seccomp filter forbids it, as containers have one"),
            Self::Masked => write!(f, "parts of /proc or /sys are hidden, as in a container"),
            Self::Unknown => write!(f, "the system does not say why"),
        }
    }
}

const CLONE_SWITCH: &str = "unprivileged_userns_clone";
const APPARMOR: &str = "apparmor_restrict_unprivileged_userns";

/// What a system says of itself under the folder where `proc` is mounted.
struct System<'a>(&'a Path);

impl System<'_> {
    /// Why the kernel said `EPERM`; the switches first, that name themselves.
    fn refusal(&self) -> Obstacle {
        if self.sysctl("kernel", CLONE_SWITCH) == Some(0) {
            Obstacle::CloneSwitch
        } else if self.is_chroot() {
            Obstacle::Chroot
        } else if self.has_seccomp_filter() {
            Obstacle::Seccomp
        } else if self.sysctl("kernel", APPARMOR) == Some(1) {
            Obstacle::AppArmor
        } else if self.is_masked() {
            Obstacle::Masked
        } else {
            Obstacle::Unknown
        }
    }

    fn limit(&self) -> Obstacle {
        let forbidden = KINDS
            .into_iter()
            .find(|kind| self.sysctl("user", &format!("max_{kind}_namespaces")) == Some(0));
        match forbidden {
            Some(kind) => Obstacle::Forbidden { kind },
            None => Obstacle::Exhausted,
        }
    }

    fn sysctl(&self, folder: &str, name: &str) -> Option<i64> {
        let text = self.read(&format!("sys/{folder}/{name}"))?;
        text.trim().parse().ok()
    }

    fn has_user_namespaces(&self) -> bool {
        // Not followed: the link's target is no path.
        std::fs::symlink_metadata(self.0.join("proc/self/ns/user")).is_ok()
    }

    /// Mode 2 is a filter; a process whose filters allow everything it ever asks has it too.
    fn has_seccomp_filter(&self) -> bool {
        self.read("self/status").is_some_and(|status| {
            let modes = status
                .lines()
                .filter_map(|line| line.strip_prefix("Seccomp:"));
            modes.map(str::trim).any(|mode| mode == "2")
        })
    }

    /// The kernel lists the mounts that can be seen from the process's root: without a chroot one
    /// of them is the root itself.
    fn is_chroot(&self) -> bool {
        self.mount_points()
            .is_some_and(|points| !points.iter().any(|point| point == "/"))
    }

    fn is_masked(&self) -> bool {
        self.mount_points()
            .is_some_and(|points| points.iter().any(|point| MASKED.contains(&point.as_str())))
    }

    fn mount_points(&self) -> Option<Vec<String>> {
        let mounts = self.read("self/mountinfo")?;
        // "36 35 98:0 /subtree /mount/point options…"
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        Some(points.map(str::to_owned).collect())
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join("proc").join(path)).ok()
    }
}

/// What the runtimes of containers cover by default. Others mount below `/proc` and `/sys` too
/// (`binfmt_misc`, `cgroup`), on folders that are empty for that purpose and hide nothing.
const MASKED: [&str; 6] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/sys/firmware",
];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HOST: &str = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                        23 22 0:21 / /proc rw,relatime shared:2 - proc proc rw\n\
                        24 23 0:22 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n";
    const CHROOT: &str = "23 22 0:21 / /proc rw,relatime shared:2 - proc proc rw\n";
    const CONTAINER: &str = "22 1 0:40 / / rw,relatime - overlay overlay rw\n\
                             23 22 0:41 / /proc rw,nosuid - proc proc rw\n\
                             24 23 0:41 /sys /proc/sys ro,nosuid - proc proc rw\n";
    const PLAIN: &str = "Name:\tseed\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n";
    const FILTERED: &str = "Name:\tseed\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    const CLONE_OFF: (&str, &str) = ("sys/kernel/unprivileged_userns_clone", "0\n");
    const CLONE_ON: (&str, &str) = ("sys/kernel/unprivileged_userns_clone", "1\n");
    const RESTRICTED: (&str, &str) = ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
    const UNRESTRICTED: (&str, &str) = ("sys/kernel/apparmor_restrict_unprivileged_userns", "0\n");
    const NO_USER: (&str, &str) = ("sys/user/max_user_namespaces", "0\n");
    const SOME_USER: (&str, &str) = ("sys/user/max_user_namespaces", "96364\n");
    const NO_NET: (&str, &str) = ("sys/user/max_net_namespaces", "0\n");
    const ON_HOST: (&str, &str) = ("self/mountinfo", HOST);
    const IN_CHROOT: (&str, &str) = ("self/mountinfo", CHROOT);
    const IN_CONTAINER: (&str, &str) = ("self/mountinfo", CONTAINER);
    const NO_FILTER: (&str, &str) = ("self/status", PLAIN);
    const FILTER: (&str, &str) = ("self/status", FILTERED);
    const BUILT: (&str, &str) = ("self/ns/user", "");

    #[rstest]
    #[case::debian(Errno::EPERM, &[CLONE_OFF, ON_HOST], Obstacle::CloneSwitch)]
    #[case::debian_before_others(Errno::EPERM, &[CLONE_OFF, FILTER, RESTRICTED, IN_CONTAINER], Obstacle::CloneSwitch)]
    #[case::ubuntu_after_the_fact(Errno::EPERM, &[CLONE_ON, RESTRICTED, ON_HOST, NO_FILTER], Obstacle::AppArmor)]
    #[case::ubuntu_at_once(Errno::EACCES, &[RESTRICTED, FILTER, ON_HOST], Obstacle::AppArmor)]
    #[case::docker(Errno::EPERM, &[FILTER, RESTRICTED, IN_CONTAINER], Obstacle::Seccomp)]
    #[case::docker_without_filter(Errno::EPERM, &[NO_FILTER, UNRESTRICTED, IN_CONTAINER], Obstacle::Masked)]
    #[case::chroot(Errno::EPERM, &[NO_FILTER, IN_CHROOT], Obstacle::Chroot)]
    #[case::red_hat(Errno::ENOSPC, &[NO_USER], Obstacle::Forbidden { kind: "user" })]
    #[case::no_networks(Errno::ENOSPC, &[SOME_USER, NO_NET], Obstacle::Forbidden { kind: "net" })]
    #[case::nested(Errno::ENOSPC, &[SOME_USER], Obstacle::Exhausted)]
    #[case::nested_long_ago(Errno::EUSERS, &[SOME_USER], Obstacle::Exhausted)]
    #[case::not_built(Errno::EINVAL, &[ON_HOST], Obstacle::NotBuilt)]
    #[case::chroot_of_root(Errno::EINVAL, &[BUILT, IN_CHROOT], Obstacle::Chroot)]
    #[case::built(Errno::EINVAL, &[BUILT], Obstacle::Unknown)]
    #[case::nothing_known(Errno::EPERM, &[CLONE_ON, UNRESTRICTED, ON_HOST, NO_FILTER], Obstacle::Unknown)]
    #[case::another_module(Errno::EACCES, &[UNRESTRICTED], Obstacle::Unknown)]
    #[case::another_error(Errno::ENOMEM, &[CLONE_OFF, RESTRICTED, NO_USER], Obstacle::Unknown)]
    #[case::no_proc(Errno::EPERM, &[], Obstacle::Unknown)]
    fn the_cause_is_found(
        #[case] errno: Errno,
        #[case] files: &[(&str, &str)],
        #[case] cause: Obstacle,
    ) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join("proc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(Obstacle::find(root.path(), &errno.into()), cause);
    }

    #[rstest]
    #[case(
        Obstacle::CloneSwitch,
        "kernel.unprivileged_userns_clone is 0",
        "`sudo sysctl -w kernel.unprivileged_userns_clone=1`"
    )]
    #[case(
        Obstacle::AppArmor,
        "kernel.apparmor_restrict_unprivileged_userns is 1",
        "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
    )]
    #[case(Obstacle::Forbidden { kind: "user" }, "user.max_user_namespaces is 0", "`sudo sysctl -w user.max_user_namespaces=10000`")]
    #[case(
        Obstacle::Seccomp,
        "seccomp filter",
        "--security-opt seccomp=unconfined"
    )]
    #[case(
        Obstacle::Masked,
        "/proc or /sys are hidden",
        "--security-opt systempaths=unconfined"
    )]
    fn cause_and_command_are_told(
        #[case] obstacle: Obstacle,
        #[case] cause: &str,
        #[case] command: &str,
    ) {
        assert!(obstacle.to_string().contains(cause), "{obstacle}");
        let hint = obstacle.hint();
        assert!(hint.contains(command) && !hint.contains('\n'), "{hint}");
    }
}
