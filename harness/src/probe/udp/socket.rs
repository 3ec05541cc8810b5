//! What UDP sockets ask of the kernel.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use super::packet;
use crate::probe::icmp::{IcmpError, set_dont_fragment};

/// More than any UDP payload.
pub(crate) const LARGEST: usize = 65_535;

/// Room for what arrives while nobody reads, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// One datagram that was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// Bytes of payload.
    pub(crate) length: usize,
    /// When the kernel received it.
    pub(crate) stamp: Option<SystemTime>,
    /// Datagrams that the socket has dropped in its life because its buffer was full.
    pub(crate) dropped: Option<u32>,
}

/// A socket that probes: stamps what it receives and keeps reports of ICMP errors.
pub(crate) fn client() -> io::Result<Socket> {
    let socket = open()?;
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    Ok(socket)
}

/// A socket that answers: told of every datagram's TTL and destination.
pub(crate) fn server(address: SocketAddrV4) -> io::Result<Socket> {
    let socket = open()?;
    setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    // An answer as long as a probe beyond the MTU must be able to leave.
    set_dont_fragment(&socket, false)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn open() -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::UDP))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    report_overflow(&socket)?;
    enlarge_receive_buffer(&socket)?;
    Ok(socket)
}

/// Has the socket tell with every packet how many it has lost for want of room.
pub(crate) fn report_overflow(socket: &Socket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::RxqOvfl, &1)?)
}

/// The limit for ordinary users (`net.core.rmem_max`) is far too low, so force it where possible.
pub(crate) fn enlarge_receive_buffer(socket: &Socket) -> io::Result<()> {
    match setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER) {
        Err(Errno::EPERM) => socket.set_recv_buffer_size(RECEIVE_BUFFER),
        other => Ok(other?),
    }
}

/// Receives one datagram.
pub(crate) fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(TimeSpec, u32);
    let mut data = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn>(fd, &mut data, Some(&mut control), MsgFlags::empty())?;
    let mut received = Received {
        length: message.bytes,
        stamp: None,
        dropped: None,
    };
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmTimestampns(stamp) => {
                received.stamp = SystemTime::UNIX_EPOCH.checked_add(Duration::from(stamp));
            }
            ControlMessageOwned::RxqOvfl(dropped) => received.dropped = Some(dropped),
            _ => {}
        }
    }
    Ok(received)
}

/// Takes one report of an ICMP error from the socket's error queue: who sent it, and what it says.
pub(crate) fn take_report(socket: &Socket) -> Option<(Ipv4Addr, IcmpError)> {
    loop {
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in, TimeSpec);
        let message = recvmsg::<SockaddrIn>(
            socket.as_raw_fd(),
            &mut [],
            Some(&mut control),
            MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
        )
        .ok()?;
        let report = message
            .cmsgs()
            .ok()?
            .find_map(|control| match control {
                ControlMessageOwned::Ipv4RecvErr(report, offender) => Some((report, offender)),
                _ => None,
            })
            // What the local kernel refuses is told by the call's own error.
            .filter(|(report, _)| report.ee_origin == libc::SO_EE_ORIGIN_ICMP);
        if let Some((report, offender)) = report {
            let router = offender.map_or(Ipv4Addr::UNSPECIFIED, |offender| {
                Ipv4Addr::from(u32::from_be(offender.sin_addr.s_addr))
            });
            return Some((router, icmp_error(&report)));
        }
    }
}

fn icmp_error(report: &libc::sock_extended_err) -> IcmpError {
    use etherparse::icmpv4::{
        CODE_DST_UNREACH_NEED_FRAG, TYPE_PARAMETER_PROBLEM, TYPE_TIME_EXCEEDED,
    };
    match (report.ee_type, report.ee_code) {
        (TYPE_TIME_EXCEEDED, code) => IcmpError::TimeExceeded { code },
        // The kernel keeps the pointer out of the report.
        (TYPE_PARAMETER_PROBLEM, _) => IcmpError::ParameterProblem { pointer: 0 },
        (_, CODE_DST_UNREACH_NEED_FRAG) => IcmpError::FragmentationNeeded {
            mtu: u16::try_from(report.ee_info).unwrap_or(u16::MAX),
        },
        (_, code) => IcmpError::Unreachable { code },
    }
}

/// Receives one datagram and, if it is a probe, answers it from the address that it was sent to.
pub(crate) fn reflect(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let mut control = nix::cmsg_space!(TimeSpec, u32, libc::c_int, libc::in_pktinfo);
    let (length, sender, ttl, info) = {
        let mut data = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrIn>(fd, &mut data, Some(&mut control), MsgFlags::empty())?;
        let (mut ttl, mut info) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4Ttl(value) => ttl = u8::try_from(value).ok(),
                ControlMessageOwned::Ipv4PacketInfo(value) => info = Some(value),
                _ => {}
            }
        }
        (message.bytes, message.address, ttl, info)
    };
    let (Some(sender), Some(received)) = (sender, buffer.get(..length)) else {
        return Ok(());
    };
    let source = SocketAddrV4::new(sender.ip(), sender.port());
    let Some(answer) = packet::answer(received, source, ttl) else {
        return Ok(());
    };
    // The address it was sent to, and no interface: the way back is the routes' affair.
    let info = info.map(|info| libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: info.ipi_addr,
        ipi_addr: libc::in_addr { s_addr: 0 },
    });
    let from: Vec<_> = info.iter().map(ControlMessage::Ipv4PacketInfo).collect();
    let data = [IoSlice::new(&answer)];
    // An answer that cannot be sent is seen by whoever waits for it.
    if let Err(error) = sendmsg(fd, &data, &from, MsgFlags::empty(), Some(&sender)) {
        debug!(%source, %error, "udp probe not answered");
    }
    Ok(())
}
