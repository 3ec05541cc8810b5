//! UDP probes: a datagram to a server that sends it back and says under which address, and with
//! which TTL, it had arrived.

mod error;
pub(crate) mod packet;
mod server;
pub(crate) mod socket;

pub(crate) use server::port_of;
pub(crate) use socket::enlarge_receive_buffer;

pub use error::UdpError;
pub use server::{UdpServer, listen};

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::patience;
use crate::probe::icmp::set_dont_fragment;
use crate::probe::refusal::Refusal;
use crate::probe::seen::Seen;
use socket::Received;

/// Numbers of probes are unique in the process: no answer passes for that of another probe.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// A UDP socket that probes from the namespace in which it was opened. One probe at a time.
#[derive(Debug)]
pub struct UdpProbe {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What to send, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpOptions {
    /// Bytes of payload, 56 by default and no less than 20, which the probe's own header takes.
    /// The IP packet is 28 bytes longer; the answer is as long.
    pub payload: usize,
    /// Sets the don't-fragment bit, as with
    /// [`PingOptions::dont_fragment`](crate::probe::icmp::PingOptions::dont_fragment). Answers
    /// never carry it.
    pub dont_fragment: bool,
    /// How long to wait for an answer, 2 s by default, before the patience factor.
    pub timeout: Duration,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            payload: 56,
            dont_fragment: false,
            timeout: Duration::from_secs(2),
        }
    }
}

/// The answer to a UDP probe: both payloads arrived unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpReply {
    /// The probe as the server saw it.
    pub seen: Seen,
    /// From just before the probe was sent to the answer's reception in the kernel.
    pub rtt: Duration,
}

impl UdpProbe {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`UdpError::Open`].
    pub fn open() -> Result<Self, UdpError> {
        let socket = socket::client().map_err(|source| UdpError::Open { source })?;
        Ok(Self {
            socket,
            buffer: vec![0; socket::LARGEST],
        })
    }

    /// Sends one probe to a [`UdpServer`] and waits for its answer. To be called on a tokio
    /// runtime with I/O and time, in any thread and namespace.
    ///
    /// # Errors
    /// See [`UdpError`]: not sent, ICMP error, corrupted, nothing in time.
    pub async fn ask(
        &mut self,
        target: SocketAddrV4,
        options: &UdpOptions,
    ) -> Result<UdpReply, UdpError> {
        let limit = patience::scaled(options.timeout)?;
        set_dont_fragment(&self.socket, options.dont_fragment).map_err(|source| {
            UdpError::Configure {
                target,
                option: "the don't-fragment bit",
                source,
            }
        })?;
        match timeout(limit, self.exchange(target, options.payload)).await {
            Ok(result) => result,
            Err(_) => Err(UdpError::TimedOut {
                target,
                timeout: limit,
            }),
        }
    }

    async fn exchange(
        &mut self,
        target: SocketAddrV4,
        payload: usize,
    ) -> Result<UdpReply, UdpError> {
        let receive = |source| UdpError::Receive { target, source };
        let refused = |source| UdpError::NotSent {
            target,
            refusal: Refusal::of(&source),
            source,
        };
        // Only a connected socket is told of ICMP errors by them alone.
        self.socket.connect(&target.into()).map_err(refused)?;
        // SAFETY: the borrowed descriptor is that of `self.socket`, which is neither closed nor
        // replaced while `ready` lives: both end with this function.
        let ready = unsafe { AsyncFd::register(self.socket.as_fd()) }
            .map_err(|error| receive(error.into()))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let request = packet::request(number, payload);
        let (sent, sent_wall) = loop {
            let sent = ready
                .async_io(Interest::WRITABLE, |_| {
                    let now = (Instant::now(), SystemTime::now());
                    self.socket.send(&request).map(|_| now)
                })
                .await;
            match sent {
                Ok(now) => break now,
                // A report about an earlier probe of this socket; then the send is repeated.
                Err(source) => match socket::take_report(&self.socket) {
                    Some(_) if !is_local(&source) => {}
                    _ => return Err(refused(source)),
                },
            }
        };
        loop {
            let buffer = &mut self.buffer;
            // A report makes the socket not readable but erroneous.
            let received = ready
                .async_io(Interest::READABLE | Interest::ERROR, |fd| {
                    socket::receive(fd.as_raw_fd(), buffer)
                })
                .await;
            let received: Received = match received {
                Ok(received) => received,
                // The error number says less than the report that comes with it.
                Err(source) => match socket::take_report(&self.socket) {
                    Some((router, error)) => {
                        return Err(UdpError::Icmp {
                            target,
                            router,
                            error,
                        });
                    }
                    None => return Err(receive(source)),
                },
            };
            let bytes = self.buffer.get(..received.length).unwrap_or_default();
            let Some(answer) = packet::read(bytes).filter(|answer| answer.number == number) else {
                // A late answer to an earlier probe.
                continue;
            };
            if !answer.intact || bytes.len() != request.len() {
                return Err(UdpError::Corrupted { target });
            }
            let longest = sent.elapsed();
            let rtt = received
                .stamp
                .and_then(|stamp| stamp.duration_since(sent_wall).ok())
                .filter(|rtt| *rtt <= longest)
                .unwrap_or(longest);
            return Ok(UdpReply {
                seen: answer.seen,
                rtt,
            });
        }
    }
}

/// Whether the kernel speaks of the very packet that it was given.
fn is_local(error: &std::io::Error) -> bool {
    Refusal::of(error) == Refusal::TooBig
}
