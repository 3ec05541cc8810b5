//! A classic BPF program, which needs no privilege, for the one socket that would else see every
//! packet of the underlay.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc::{self, sock_filter, sock_fprog};

use crate::encap::userspace::packet::frame::ETHERNET;

// linux/bpf_common.h and linux/filter.h.
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
const LOAD_LENGTH: u16 = 0x80;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;
/// Ancillary data: how the packet came (`PACKET_HOST` is 0).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
/// As much of the packet as there is.
const ALL: u32 = u32::MAX;

/// Takes frames to this host with more than `mtu` bytes of protocol 4 to `node_address`.
pub(super) fn supers(mtu: u32, node_address: Ipv4Addr) -> [sock_filter; 10] {
    let ip = ETHERNET as u32;
    [
        statement(LOAD_LENGTH, 0),
        // A jump's first number is how many to skip if so, the second if not.
        jump(JUMP_GREATER, mtu + ip, 0, 7),
        statement(LOAD_BYTE, PACKET_TYPE),
        jump(JUMP_EQUAL, 0, 0, 5),
        statement(LOAD_BYTE, ip + 9),
        jump(JUMP_EQUAL, 4, 0, 3),
        statement(LOAD_WORD, ip + 16),
        jump(JUMP_EQUAL, node_address.to_bits(), 0, 1),
        statement(RETURN, ALL),
        statement(RETURN, 0),
    ]
}

fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

pub(super) fn attach(socket: &OwnedFd, program: &[sock_filter]) -> io::Result<()> {
    let program = sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads `len` instructions, which outlive the call, and writes none.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
