//! The TTL with which a TCP connection's SYN arrived.
//!
//! The kernel tells no TTL of a stream's segments, but it keeps the headers of the SYN for a
//! server that asks (`TCP_SAVE_SYN`, Linux 4.3).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc::{self, c_int, socklen_t};

/// Makes the connections that `listener` will accept keep the headers of their SYN.
pub(crate) fn keep(listener: impl AsFd) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the descriptor is borrowed for the call; the option takes an int, which `on` is and
    // which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVE_SYN,
            (&raw const on).cast(),
            size_of::<c_int>() as socklen_t,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// The TTL of the SYN of an accepted connection, where it was kept. To be asked once: the kernel
/// forgets what it has told.
pub(crate) fn ttl(connection: impl AsFd) -> Option<u8> {
    /// The largest IPv4 header with the largest TCP header.
    const LONGEST: usize = 120;
    /// Where an IPv4 header has its TTL.
    const TTL_OFFSET: usize = 8;
    let mut headers = [0_u8; LONGEST];
    let mut length = LONGEST as socklen_t;
    // SAFETY: the descriptor is borrowed for the call; the option writes at most `length` bytes to
    // `headers`, which has as many, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            connection.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            headers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result).ok()?;
    let kept = headers.get(..length as usize)?;
    let is_v4 = kept.first()? >> 4 == 4;
    is_v4.then(|| kept.get(TTL_OFFSET).copied()).flatten()
}
