//! Keeping the kernel's packet time stamps switched on.
//!
//! Linux stamps packets on arrival only while some socket wants it, and it switches that on in the
//! background: a capture that is the first on the machine gets its first packets without stamp,
//! and they carry the time at which they were *read*. Whoever compares times between taps holds a
//! [`TimeStamps`] from before the first packet.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, TimestampingFlag, recvmsg, setsockopt, sockopt,
};

/// The kernel needs some milliseconds at most; longer means that it never will.
const PATIENCE: Duration = Duration::from_secs(5);

/// While this lives, every packet on the machine is stamped on arrival.
///
/// It holds a socket, and so the network namespace in which it was made.
#[derive(Debug)]
pub struct TimeStamps {
    /// Only its existence matters.
    _socket: UdpSocket,
}

impl TimeStamps {
    /// Switches time stamps on and returns when they are. The loopback device of the calling
    /// thread's network namespace must be up; some datagrams to 127.0.0.1 prove the stamps.
    ///
    /// # Errors
    ///
    /// No loopback, or the kernel makes no stamps.
    pub fn switch_on() -> io::Result<TimeStamps> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        // Unlike SO_TIMESTAMPNS this leaves out the stamp of a packet that has none.
        let software = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE;
        setsockopt(&socket, sockopt::Timestamping, &software)?;
        let start = Instant::now();
        while !is_stamped(&socket)? {
            if start.elapsed() > PATIENCE {
                let message = "the kernel does not stamp packets";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::yield_now();
        }
        Ok(TimeStamps { _socket: socket })
    }
}

/// Sends a datagram to itself and says whether it came with a stamp.
fn is_stamped(socket: &UdpSocket) -> io::Result<bool> {
    socket.send(&[])?;
    let mut control = nix::cmsg_space!([nix::libc::timespec; 3]);
    let message = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut [],
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let mut messages = message.cmsgs()?;
    Ok(messages.any(|message| matches!(message, ControlMessageOwned::ScmTimestampsns(_))))
}
