//! The sockets at both ends of the tunnel.
//!
//! | socket | what goes through it |
//! |---|---|
//! | [`tap`] on `tunl0-x` | frames that the node routed into `tunl0` |
//! | [`sender`] | outer packets to other nodes |
//! | [`launcher`] on the underlay | those of them that are super-packets |
//! | [`receiver`] on the underlay | outer packets from other nodes |
//! | [`claim`] | nothing; it says that protocol 4 is somebody's |
//! | [`injector`] on `tunl0-x` | inner packets, on their way to `tunl0` |

pub(super) mod batch;
mod filter;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc::{self, c_int};
use nix::sys::socket::{setsockopt, sockopt};

/// The kernel's linux/if_packet.h.
const PACKET_VNET_HDR: c_int = 15;

/// Some hundred super-packets. The kernel takes memory for what is waiting only.
const BUFFER: usize = 16 << 20;

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{operation}{}", hint(source))]
pub(crate) struct SocketError {
    operation: &'static str,
    source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "\nhint: CAP_NET_RAW is needed; run as root or in a user namespace"
        }
        _ => "",
    }
}

/// What the node sends into `tunl0`, as it arrives at the other end, interface `peer`.
pub(super) fn tap(peer: u32) -> Result<OwnedFd, SocketError> {
    named("open a packet socket for what is sent", || {
        // Only of a socket for all protocols the kernel asks for copies of what goes out.
        let socket = packet_socket()?;
        deepen(&socket);
        bind(&socket, peer, libc::ETH_P_IP)?;
        Ok(socket)
    })
}

/// Takes frames out to `tunl0`, through its peer. Receives nothing.
pub(super) fn injector(peer: u32) -> Result<OwnedFd, SocketError> {
    named("open a packet socket for what is received", || {
        let socket = packet_socket()?;
        deepen(&socket);
        bind(&socket, peer, 0)?;
        Ok(socket)
    })
}

/// Sends super-packets out of the interface `underlay`, which no raw socket can. Receives nothing.
pub(super) fn launcher(underlay: u32) -> Result<OwnedFd, SocketError> {
    named("open a packet socket for super-packets", || {
        let socket = packet_socket()?;
        deepen(&socket);
        bind(&socket, underlay, 0)?;
        Ok(socket)
    })
}

/// Sends packets with an IPv4 header of our own (raw(7), `IPPROTO_RAW`). Receives nothing.
pub(super) fn sender() -> Result<OwnedFd, SocketError> {
    named("open a raw socket for sending", || {
        let socket = open(libc::AF_INET, libc::IPPROTO_RAW)?;
        deepen(&socket);
        Ok(socket)
    })
}

/// What arrives for `node_address` by protocol 4 at interface `underlay`, put together if it was
/// fragmented.
///
/// A packet socket, not a raw one: only here the kernel says how a super-packet is to be cut and
/// which checksums are left to be made. Such packets come from nodes on this host, and from
/// drivers that put streams together.
pub(super) fn receiver(underlay: u32, node_address: Ipv4Addr) -> Result<OwnedFd, SocketError> {
    named("open a packet socket on the underlay", || {
        let socket = packet_socket()?;
        deepen(&socket);
        filter::attach(&socket, &filter::ipip_to(node_address))?;
        bind(&socket, underlay, libc::ETH_P_IP)?;
        if let Err(error) = reassemble(&socket) {
            tracing::warn!("userspace: fragments of outer packets will be dropped: {error}");
        }
        Ok(socket)
    })
}

/// While it is open the node does not answer protocol 4 with "protocol unreachable". Receives
/// nothing.
pub(super) fn claim() -> Result<OwnedFd, SocketError> {
    named("open a raw socket for protocol 4", || {
        let socket = open(libc::AF_INET, libc::IPPROTO_IPIP)?;
        filter::attach(&socket, &filter::nothing())?;
        Ok(socket)
    })
}

/// Whether anybody has a packet socket for IPv4 on this interface, as [`tap`] and [`receiver`] are;
/// whoever captures packets takes all protocols.
pub(super) fn is_open_on(interface: u32) -> bool {
    let sockets = std::fs::read_to_string("/proc/self/net/packet").unwrap_or_default();
    lists(&sockets, interface)
}

/// In the kernel's list, whose columns are address, references, type, protocol, interface …
fn lists(sockets: &str, interface: u32) -> bool {
    sockets.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(3);
        let protocol = columns
            .next()
            .and_then(|hex| c_int::from_str_radix(hex, 16).ok());
        let index = columns.next().and_then(|index| index.parse().ok());
        (protocol, index) == (Some(libc::ETH_P_IP), Some(interface))
    })
}

/// Lets the kernel put fragments together before they reach a bound packet socket. That is a
/// feature of groups of sockets; this is a group of one (packet(7), `PACKET_FANOUT`).
fn reassemble(socket: &OwnedFd) -> io::Result<()> {
    // Of the ways to choose a member the one that looks at nothing.
    let kind = libc::PACKET_FANOUT_CPU
        | libc::PACKET_FANOUT_FLAG_DEFRAG
        | libc::PACKET_FANOUT_FLAG_UNIQUEID;
    set(
        socket,
        libc::SOL_PACKET,
        libc::PACKET_FANOUT,
        (kind << 16) as c_int,
    )
}

fn named(
    operation: &'static str,
    open: impl FnOnce() -> io::Result<OwnedFd>,
) -> Result<OwnedFd, SocketError> {
    open().map_err(|source| SocketError { operation, source })
}

/// A packet socket that receives nothing before it is bound.
fn packet_socket() -> io::Result<OwnedFd> {
    let socket = open(libc::AF_PACKET, 0)?;
    set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    Ok(socket)
}

fn open(family: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(family, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The default queues hold two or three super-packets.
fn deepen(socket: &OwnedFd) {
    for result in [
        setsockopt(socket, sockopt::RcvBufForce, &BUFFER),
        setsockopt(socket, sockopt::SndBufForce, &BUFFER),
    ] {
        if let Err(error) = result {
            tracing::debug!("userspace: a socket's queue stays short: {error}");
        }
    }
}

fn set(socket: &OwnedFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one int from the pointer, and one int is there.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn bind(socket: &OwnedFd, interface: u32, ethertype: c_int) -> io::Result<()> {
    // SAFETY: plain numbers and arrays of them, for which all zeroes are a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (ethertype as u16).to_be();
    address.sll_ifindex = interface as c_int;
    // SAFETY: pointer and length are those of `address`.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether the kernel and the caller's privileges allow all of them.
pub(super) fn probe() -> Result<(), SocketError> {
    named("open a packet socket", packet_socket)?;
    sender()?;
    claim()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_not_taken_for_a_tunnel() {
        let list = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                    0000000000000000 3      3    0800   7     1 0      0      21\n\
                    0000000000000000 3      3    0003   5     1 0      0      22\n";
        assert!(lists(list, 7));
        assert!(!lists(list, 5), "tcpdump");
        assert!(!lists(list, 6) && !lists("", 7));
    }
}
