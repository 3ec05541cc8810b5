//! Programs of ours as an ordinary user or a container meets them.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};
use nix::libc::{self, sock_filter};
use nix::unistd::Uid;
use tempfile::TempDir;

const TOUR: &str = env!("CARGO_BIN_EXE_seed-tour");

/// A folder that is open to everybody, with copies of `seed-tour` and `podlab-agent`: the build
/// folder may be closed to others.
pub(crate) struct Programs(TempDir);

impl Programs {
    pub(crate) fn copy() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()?;
        for name in ["seed-tour", "podlab-agent"] {
            let built = Path::new(TOUR).with_file_name(name);
            std::fs::copy(&built, folder.path().join(name))
                .with_context(|| format!("copy {}", built.display()))?;
        }
        Ok(Self(folder))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs one as an ordinary user, to its end.
    pub(crate) fn as_ordinary_user(&self, name: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.path(name));
        command.args(arguments).current_dir("/");
        if Uid::effective().is_root() {
            command.uid(65534).gid(65534);
        }
        Ok(command.output()?)
    }

    /// Runs `seed-tour` where a shell script has changed things first, as root of a user namespace
    /// and a mount namespace. The script finds the program in `$TOUR` and its folder in `$FOLDER`.
    pub(crate) fn tour_after(&self, script: &str) -> Result<Output> {
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-ec", script])
            .env("FOLDER", self.0.path())
            .env("TOUR", self.path("seed-tour"))
            .output();
        output.context("start unshare")
    }

    /// Runs `seed-tour` where a system call filter forbids new namespaces, as in a container.
    pub(crate) fn tour_under_a_filter(&self) -> Result<Output> {
        let mut command = Command::new(self.path("seed-tour"));
        // SAFETY: between fork and exec the closure makes system calls only.
        unsafe { command.pre_exec(forbid_namespaces) };
        Ok(command.output()?)
    }
}

/// `clone(2)` with `CLONE_NEWNS` is answered by `EPERM` from now on.
fn forbid_namespaces() -> io::Result<()> {
    const NUMBER: u32 = 0;
    // The lower half of the first argument, on machines that store it first.
    const FLAGS: u32 = 16;
    let instruction = |operation: u32, jf, k| sock_filter {
        code: operation as u16,
        jt: 0,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut filter = [
        instruction(load, 0, NUMBER),
        instruction(libc::BPF_JMP | libc::BPF_JEQ, 3, libc::SYS_clone as u32),
        instruction(load, 0, FLAGS),
        instruction(libc::BPF_JMP | libc::BPF_JSET, 1, libc::CLONE_NEWNS as u32),
        instruction(
            libc::BPF_RET,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        instruction(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: plain numbers, and a program that outlives the call that copies it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
