//! Classic BPF programs, which need no privilege, for sockets that would else see too much.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc::{self, sock_filter, sock_fprog};

use crate::encap::userspace::packet::frame::ETHERNET;
use crate::encap::userspace::packet::ipv4::IPIP;

// linux/bpf_common.h and linux/filter.h.
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Ancillary data: how the packet came (`PACKET_HOST` is 0).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
/// As much of the packet as there is.
const ALL: u32 = u32::MAX;

/// Takes frames to this host with protocol 4 to `node_address`.
pub(super) fn ipip_to(node_address: Ipv4Addr) -> [sock_filter; 8] {
    let ip = ETHERNET as u32;
    [
        // A jump's first number is how many to skip if so, the second if not.
        statement(LOAD_BYTE, ip + 9),
        jump(JUMP_EQUAL, IPIP.into(), 0, 5),
        statement(LOAD_WORD, ip + 16),
        jump(JUMP_EQUAL, node_address.to_bits(), 0, 3),
        statement(LOAD_BYTE, PACKET_TYPE),
        jump(JUMP_EQUAL, 0, 0, 1),
        statement(RETURN, ALL),
        statement(RETURN, 0),
    ]
}

/// Takes nothing.
pub(super) fn nothing() -> [sock_filter; 1] {
    [statement(RETURN, 0)]
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
