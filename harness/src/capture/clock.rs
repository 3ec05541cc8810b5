//! Makes the kernel stamp every packet when it passes, from the very first one on.
//!
//! The kernel stamps packets only while some socket asks for it, and it changes its mind in the
//! background (`netstamp_needed_key` in `net/core/dev.c`). A packet that passes before that has
//! no stamp and gets the time at which it is *read*, so the first packets of the first capture
//! would seem to have travelled backwards. One socket that asks all the time prevents that.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};

/// Open for as long as the process lives.
static KEEPER: OnceLock<UdpSocket> = OnceLock::new();

/// The change in the background takes a few milliseconds at the most; after this long the stamps
/// are as good as they get.
const LIMIT: Duration = Duration::from_millis(200);

/// Switches stamping on and returns when it works. `lo` must be up in the calling thread's
/// network namespace.
pub(crate) fn keep_stamping() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(socket.local_addr()?)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    let start = Instant::now();
    while !is_stamped_on_the_way(&socket)? && start.elapsed() < LIMIT {
        std::thread::yield_now();
    }
    // A second call finds the first one's socket, which serves as well.
    KEEPER.set(socket).ok();
    Ok(())
}

/// Sends itself a packet; its stamp is either older than the end of the sending or made up when
/// it is read.
fn is_stamped_on_the_way(socket: &UdpSocket) -> io::Result<bool> {
    socket.send(b"stamp")?;
    let sent = SystemTime::now();
    let mut buffer = [0; 16];
    let mut parts = [io::IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(nix::libc::timespec);
    let message = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    Ok(stamp.is_some_and(|stamp| SystemTime::UNIX_EPOCH + stamp <= sent))
}
