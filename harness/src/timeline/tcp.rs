//! TCP connections as probes: each is made and given up again at once.
//!
//! The sockets are opened once, in the namespace, and used again: dissolving the connection
//! (`connect` to `AF_UNSPEC`) makes a socket as good as new, and sends the peer a RST, so that
//! nobody is left in TIME_WAIT.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use super::line::{Event, Sent};
use crate::probe::refusal::Refusal;

/// After this a connection counts as lost: the kernel repeats a SYN that was lost a second after
/// it, and the repetition is not the probe, also where it has been answered by now.
pub(super) const CONNECT: Duration = Duration::from_millis(900);

/// The connections of one pair.
#[derive(Debug)]
pub(super) struct Connections {
    target: SocketAddrV4,
    slots: Vec<Slot>,
    /// Places of those that are idle.
    idle: Vec<usize>,
    /// Places of those that were begun, their probes, and when; the oldest first.
    begun: VecDeque<(usize, u64, Instant)>,
}

#[derive(Debug)]
struct Slot {
    socket: Socket,
}

impl Connections {
    /// Opens `count` sockets in the calling thread's network namespace.
    pub(super) fn open(target: SocketAddrV4, count: usize) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let slot = |_| {
            Ok(Slot {
                socket: Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))?,
            })
        };
        Ok(Self {
            target,
            slots: (0..count).map(slot).collect::<io::Result<_>>()?,
            idle: (0..count).collect(),
            begun: VecDeque::new(),
        })
    }

    /// How many sockets a rate needs when nothing is answered.
    pub(super) fn needed(interval: Duration) -> usize {
        let shares = CONNECT.as_secs_f64() / interval.as_secs_f64().max(1e-6);
        // Far below the limit of descriptors for every interval that a timeline takes.
        shares.ceil() as usize + 2
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.slots.iter().map(|slot| slot.socket.as_fd()).collect()
    }

    /// Begins a connection.
    pub(super) fn begin(&mut self, number: u64) -> Sent {
        let Some(place) = self.idle.pop() else {
            return Sent::NoRoom;
        };
        let Some(slot) = self.slots.get(place) else {
            return Sent::NoRoom;
        };
        match slot.socket.connect(&self.target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                self.idle.push(place);
                Sent::Refused(told(&error))
            }
            _ => {
                self.begun.push_back((place, number, Instant::now()));
                Sent::Yes
            }
        }
    }

    /// Takes what has become of the connections.
    pub(super) fn collect(&mut self, event: &mut dyn FnMut(Event)) {
        let now = SystemTime::now();
        let (slots, idle) = (&self.slots, &mut self.idle);
        self.begun.retain(|(place, number, begun)| {
            let Some(slot) = slots.get(*place) else {
                return false;
            };
            match slot.state() {
                State::Connected => event(Event::Answer(*number, Some(now))),
                State::Failed(error) => event(Event::Told(told(&error))),
                State::Waiting if begun.elapsed() < CONNECT => return true,
                State::Waiting | State::Lost => {}
            }
            slot.dissolve();
            idle.push(*place);
            false
        });
    }
}

enum State {
    Waiting,
    Connected,
    /// Connected by a repetition.
    Lost,
    Failed(io::Error),
}

impl Slot {
    fn state(&self) -> State {
        match self.socket.take_error() {
            Ok(Some(error)) | Err(error) => State::Failed(error),
            // In SYN-SENT a socket has no peer yet.
            Ok(None) if self.socket.peer_addr().is_err() => State::Waiting,
            Ok(None) if self.was_repeated() => State::Lost,
            Ok(None) => State::Connected,
        }
    }

    /// Whether the kernel has sent anything twice: who looks late would take a repeated SYN for the
    /// probe.
    fn was_repeated(&self) -> bool {
        // SAFETY: plain numbers, for which zero is a value.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: the option writes a tcp_info, at most `length` bytes of it, and both live beyond
        // the call.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        Errno::result(result).is_ok() && info.tcpi_total_retrans > 0
    }

    fn dissolve(&self) {
        let nobody = libc::sockaddr {
            sa_family: libc::AF_UNSPEC as libc::sa_family_t,
            sa_data: [0; 14],
        };
        // SAFETY: the descriptor is that of the socket, which is borrowed; the address is a live
        // sockaddr of the length that is given, and the kernel only reads it.
        let dissolved = unsafe {
            libc::connect(
                self.socket.as_raw_fd(),
                &raw const nobody,
                size_of::<libc::sockaddr>() as libc::socklen_t,
            )
        };
        if let Err(error) = Errno::result(dissolved) {
            tracing::debug!(%error, "dissolve a connection");
        }
    }
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => format!("{} ({error})", Refusal::of(error)),
    }
}
