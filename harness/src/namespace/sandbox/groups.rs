//! `setgroups(2)` in a user namespace that an ordinary user has made.
//!
//! The kernel forbids it there, since to leave a group may open what was closed to the group. But
//! programs that were started by root drop their groups out of caution (tcpdump, daemons of
//! routing suites) and end when they cannot. Nothing of the sandbox is anybody else's, so the
//! call is answered as if it had worked, by a system call filter.

use std::io;

use nix::errno::Errno;
use nix::libc::{self, sock_filter};

/// `AUDIT_ARCH_…` of linux/audit.h: numbers of system calls mean something with it only.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// From now on `setgroups` does nothing and succeeds, in the calling process and all that it
/// starts. The process must be root in its user namespace. On other architectures than x86-64 and
/// ARM64 the call fails as before.
pub(super) fn pretend_to_set() -> io::Result<()> {
    let Some(architecture) = ARCHITECTURE else {
        return Ok(());
    };
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, offset);
    let skip_unless = |value, skip| {
        let operation = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        instruction(operation, skip, value)
    };
    let answer = |value| instruction(libc::BPF_RET | libc::BPF_K, 0, value);
    let mut filter = [
        load(ARCH),
        skip_unless(architecture, 3),
        load(NUMBER),
        skip_unless(libc::SYS_setgroups as u32, 1),
        // An error of number 0 is a success.
        answer(libc::SECCOMP_RET_ERRNO),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which is valid and outlives the call.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// `skip` is by how many instructions a comparison that fails jumps ahead.
fn instruction(operation: u32, skip: u8, value: u32) -> sock_filter {
    sock_filter {
        // All of classic BPF's operations fit.
        code: operation as u16,
        jt: 0,
        jf: skip,
        k: value,
    }
}
