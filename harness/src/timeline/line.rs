//! The sockets of one pair: how probes of each protocol leave and how answers come back.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::SystemTime;

use socket2::Socket;

use super::tcp::Connections;
use crate::probe::icmp::{self, Answer, Echo};
use crate::probe::refusal::Refusal;
use crate::probe::udp::{self, packet};

/// What came back.
#[derive(Debug)]
pub(super) enum Event {
    /// The answer to the probe of that number, and when the kernel received it, if it says so.
    Answer(u64, Option<SystemTime>),
    /// Something in place of an answer.
    Told(String),
}

/// What became of an attempt to send.
#[derive(Debug)]
pub(super) enum Sent {
    /// It is on its way.
    Yes,
    /// The kernel says that there is no way: as good as lost.
    Refused(String),
    /// There was no room on our side; it does not count.
    NoRoom,
}

/// The sockets of one pair.
#[derive(Debug)]
pub(super) enum Line {
    Datagrams(Datagrams),
    Tcp(Connections),
}

/// One socket for all probes.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: Socket,
    kind: Kind,
    payload: usize,
}

#[derive(Debug)]
enum Kind {
    Icmp {
        identifier: u16,
        target: Ipv4Addr,
    },
    Udp {
        target: SocketAddrV4,
        connected: bool,
    },
}

impl Line {
    /// The descriptors on which something comes back.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Datagrams(datagrams) => vec![datagrams.socket.as_fd()],
            Self::Tcp(connections) => connections.descriptors(),
        }
    }

    /// Sends the probe of that number.
    pub(super) fn send(&mut self, number: u64) -> Sent {
        match self {
            Self::Datagrams(datagrams) => datagrams.send(number),
            Self::Tcp(connections) => connections.begin(number),
        }
    }

    /// Takes all that has come back. `next` is the number of the probe that will be sent next.
    /// Returns how many answers the socket has lost in its life.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        next: u64,
        event: &mut dyn FnMut(Event),
    ) -> u64 {
        match self {
            Self::Datagrams(datagrams) => datagrams.receive(buffer, next, event),
            Self::Tcp(connections) => {
                connections.collect(event);
                0
            }
        }
    }
}

impl Datagrams {
    /// Opens a socket for echo requests in the calling thread's network namespace.
    pub(super) fn icmp(target: Ipv4Addr, payload: usize) -> io::Result<Self> {
        let (socket, identifier) = icmp::open_socket()?;
        udp::socket::enlarge_receive_buffer(&socket)?;
        udp::socket::report_overflow(&socket)?;
        Ok(Self {
            socket,
            kind: Kind::Icmp { identifier, target },
            payload,
        })
    }

    /// Opens a UDP socket in the calling thread's network namespace.
    pub(super) fn udp(target: SocketAddrV4, payload: usize) -> io::Result<Self> {
        Ok(Self {
            socket: udp::socket::client()?,
            kind: Kind::Udp {
                target,
                connected: false,
            },
            payload,
        })
    }

    fn send(&mut self, number: u64) -> Sent {
        let message = match self.kind {
            Kind::Icmp { identifier, target } => self.echo(identifier, target, number).to_bytes(),
            Kind::Udp { .. } => packet::request(number, self.payload),
        };
        let (socket, kind) = (&self.socket, &mut self.kind);
        let mut send = || match kind {
            Kind::Icmp { target, .. } => {
                socket.send_to(&message, &SocketAddrV4::new(*target, 0).into())
            }
            Kind::Udp { target, connected } => {
                // Only a connected socket is told of ICMP errors by them alone. Connecting takes a
                // way to the target, which may not be there at first.
                if !*connected {
                    socket.connect(&(*target).into())?;
                    *connected = true;
                }
                socket.send(&message)
            }
        };
        let sent = match send() {
            // The error of an earlier probe is told to the next call, whichever that is; receiving
            // takes its report.
            Err(error) if is_report(&error) => send(),
            other => other,
        };
        match sent {
            Ok(_) => Sent::Yes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::NoRoom,
            Err(error) => Sent::Refused(format!("not sent: {} ({error})", Refusal::of(&error))),
        }
    }

    fn receive(&self, buffer: &mut [u8], next: u64, event: &mut dyn FnMut(Event)) -> u64 {
        let mut overflowed = 0;
        loop {
            let received = match udp::socket::receive(self.socket.as_raw_fd(), buffer) {
                Ok(received) => received,
                Err(error) => {
                    // The error number says less than the report that comes with it.
                    let report = udp::socket::take_report(&self.socket);
                    if let Some((router, what)) = report {
                        event(Event::Told(format!("{router} says {what}")));
                        continue;
                    }
                    match error.kind() {
                        io::ErrorKind::WouldBlock => return overflowed,
                        io::ErrorKind::Interrupted => {}
                        _ => event(Event::Told(error.to_string())),
                    }
                    continue;
                }
            };
            overflowed = overflowed.max(received.dropped.unwrap_or(0).into());
            let bytes = buffer.get(..received.length).unwrap_or_default();
            if let Some(what) = self.read(bytes, next, received.stamp) {
                event(what);
            }
        }
    }

    fn read(&self, bytes: &[u8], next: u64, stamp: Option<SystemTime>) -> Option<Event> {
        let changed = || Event::Told("a payload came back changed".to_owned());
        match self.kind {
            Kind::Icmp { identifier, target } => {
                let number = unwrapped(icmp::subject(bytes)?, next)?;
                Some(match self.echo(identifier, target, number).answer(bytes)? {
                    Answer::Reply { .. } => Event::Answer(number, stamp),
                    Answer::Corrupted { .. } => changed(),
                    Answer::Error { router, error } => {
                        Event::Told(format!("{router} says {error}"))
                    }
                })
            }
            Kind::Udp { .. } => packet::read(bytes).map(|answer| match answer.intact {
                true => Event::Answer(answer.number, stamp),
                false => changed(),
            }),
        }
    }

    fn echo(&self, identifier: u16, target: Ipv4Addr, number: u64) -> Echo {
        Echo {
            target,
            identifier,
            // The low half: the rest is found again by `unwrapped`.
            sequence: number as u16,
            payload_len: self.payload,
        }
    }
}

/// Whether an error is not of the packet that was given, but of an ICMP error to an earlier one.
fn is_report(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkUnreachable
    )
}

/// The number of a probe by its low 16 bits: the latest that was sent, before `next`.
pub(super) fn unwrapped(low: u16, next: u64) -> Option<u64> {
    let latest = next.checked_sub(1)?;
    let back = (latest as u16).wrapping_sub(low);
    latest.checked_sub(back.into())
}
