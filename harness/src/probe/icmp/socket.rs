//! What the raw socket asks of the kernel.

use super::packet::filter;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

/// A socket that receives what may answer echo requests with `identifier`.
pub(super) fn open(identifier: u16) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::ICMPV4),
    )?;
    socket.attach_filter(&filter(identifier))?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// Receives one packet, with the time at which the kernel received it.
pub(crate) fn receive_stamped(
    fd: i32,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<SystemTime>)> {
    let mut control = cmsg_space!(TimeSpec);
    let mut data = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn>(fd, &mut data, Some(&mut control), MsgFlags::empty())?;
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    Ok((
        message.bytes,
        stamp.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)),
    ))
}

/// `IP_PMTUDISC_PROBE` sets the bit and ignores the path MTU that the kernel remembers;
/// `IP_PMTUDISC_DONT` clears it.
pub(crate) fn set_dont_fragment(socket: &Socket, dont_fragment: bool) -> io::Result<()> {
    use nix::libc::{
        IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_PROBE, IPPROTO_IP, c_int, setsockopt,
    };
    let mode: c_int = if dont_fragment {
        IP_PMTUDISC_PROBE
    } else {
        IP_PMTUDISC_DONT
    };
    // SAFETY: the descriptor is open as long as `socket` is borrowed; pointer and length are
    // those of a live `c_int`, which is what the option takes, and the kernel only reads it.
    let result = unsafe {
        setsockopt(
            socket.as_raw_fd(),
            IPPROTO_IP,
            IP_MTU_DISCOVER,
            (&raw const mode).cast(),
            size_of_val(&mode) as u32,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}
