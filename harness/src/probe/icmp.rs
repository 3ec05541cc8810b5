//! ICMP echo: `ping` in-process.
//!
//! Own code and not the program, because a test wants to choose TTL, size and the
//! don't-fragment bit, and to get the reply as values and ICMP errors as types.

mod error;
mod packet;
mod socket;
mod witness;

pub(crate) use packet::{Answer, Echo, subject};
pub(crate) use socket::set_dont_fragment;
pub(crate) use witness::EchoWitness;

pub use error::{Corruption, IcmpError, PingError};

use crate::patience;
use crate::probe::refusal::Refusal;
use socket2::Socket;
use std::fmt::{self, Display};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// The largest IPv4 packet.
const LARGEST_PACKET: usize = 65_535;

/// Echo requests have an ICMP header of eight bytes.
const ICMP_HEADER_LEN: usize = 8;

/// A raw socket that sends echo requests from the namespace in which it was opened.
///
/// One ping at a time per socket; for pings in parallel open several. Each has an identifier
/// of its own, and neither sees the other's replies.
#[derive(Debug)]
pub struct EchoSocket {
    socket: Socket,
    identifier: u16,
    /// Of the last request.
    sequence: u16,
    buffer: Vec<u8>,
}

/// What to send, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingOptions {
    /// Bytes of payload after the ICMP header, 56 by default as with the program. The IP
    /// packet is 28 bytes longer.
    pub payload: usize,
    /// Time to live of the request, 64 by default; at least 1.
    pub ttl: u8,
    /// Sets the don't-fragment bit. What the kernel has learnt of the path's MTU is then
    /// passed over, so that every ping gets the router's own answer; what does not fit the
    /// first link is refused with [`Refusal::TooBig`]. Without the bit, the default, large
    /// requests go out in fragments.
    pub dont_fragment: bool,
    /// The type-of-service byte, 0 by default.
    pub tos: u8,
    /// An address of the namespace to send from; by default the route decides.
    pub source: Option<Ipv4Addr>,
    /// How long to wait for an answer, 2 s by default, before the patience factor.
    pub timeout: Duration,
}

impl Default for PingOptions {
    fn default() -> Self {
        Self {
            payload: 56,
            ttl: 64,
            dont_fragment: false,
            tos: 0,
            source: None,
            timeout: Duration::from_secs(2),
        }
    }
}

/// The answer to a ping: our payload came back unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EchoReply {
    /// Source address of the reply. Usually the target.
    pub from: Ipv4Addr,
    /// The reply's TTL on arrival: its sender's (64 on Linux) less one per router.
    pub ttl: u8,
    /// From just before the request was sent to its reception in the kernel.
    pub rtt: Duration,
    /// Bytes of payload.
    pub payload: usize,
    /// Sequence number, from 1 for a socket's first ping.
    pub sequence: u16,
    /// Identifier of the socket that pinged.
    pub identifier: u16,
}

/// A raw socket of the calling thread's network namespace, and the identifier by which it is sent
/// the answers to its echo requests alone.
pub(crate) fn open_socket() -> std::io::Result<(Socket, u16)> {
    let identifier = next_identifier();
    Ok((socket::open(identifier)?, identifier))
}

impl EchoSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`PingError::Open`], most often for want of CAP_NET_RAW.
    pub fn open() -> Result<Self, PingError> {
        let (socket, identifier) = open_socket().map_err(|source| PingError::Open { source })?;
        Ok(Self {
            socket,
            identifier,
            sequence: 0,
            buffer: vec![0; LARGEST_PACKET],
        })
    }

    /// Sends one echo request to `target` and waits for its answer. To be called on a tokio
    /// runtime with I/O and time, in any thread and namespace.
    ///
    /// # Errors
    /// See [`PingError`]: not sent, ICMP error, corrupted reply, nothing in time.
    pub async fn ping(
        &mut self,
        target: Ipv4Addr,
        options: &PingOptions,
    ) -> Result<EchoReply, PingError> {
        let limit = patience::scaled(options.timeout)?;
        self.configure(target, options)?;
        self.sequence = self.sequence.wrapping_add(1);
        let echo = Echo {
            target,
            identifier: self.identifier,
            sequence: self.sequence,
            payload_len: options.payload,
        };
        match timeout(limit, self.exchange(&echo)).await {
            Ok(result) => result,
            Err(_) => Err(PingError::TimedOut {
                target,
                sequence: echo.sequence,
                timeout: limit,
            }),
        }
    }

    /// Identifier and sequence number of the last request.
    pub(crate) fn last_request(&self) -> (u16, u16) {
        (self.identifier, self.sequence)
    }

    fn configure(&self, target: Ipv4Addr, options: &PingOptions) -> Result<(), PingError> {
        let option = |option| {
            move |source| PingError::Configure {
                target,
                option,
                source,
            }
        };
        let raw = &self.socket;
        raw.set_ttl_v4(options.ttl.into()).map_err(option("ttl"))?;
        raw.set_tos_v4(options.tos.into()).map_err(option("tos"))?;
        socket::set_dont_fragment(raw, options.dont_fragment)
            .map_err(option("the don't-fragment bit"))?;
        // Binding anew replaces the address of the ping before.
        let address = options.source.unwrap_or(Ipv4Addr::UNSPECIFIED);
        raw.bind(&SocketAddrV4::new(address, 0).into())
            .map_err(|source| PingError::SourceAddress {
                target,
                address,
                source,
            })
    }

    async fn exchange(&mut self, echo: &Echo) -> Result<EchoReply, PingError> {
        let target = echo.target;
        let receive = |source| PingError::Receive { target, source };
        // Registered per ping: the runtime need not be the one of the ping before.
        // SAFETY: the borrowed descriptor is that of `self.socket`, which is neither closed nor
        // replaced while `ready` lives: both end with this function.
        let ready = unsafe { AsyncFd::register(self.socket.as_fd()) }
            .map_err(|error| receive(error.into()))?;
        let message = echo.to_bytes();
        let to = SocketAddrV4::new(target, 0).into();
        let (sent, sent_wall) = ready
            .async_io(Interest::WRITABLE, |_| {
                let now = (Instant::now(), SystemTime::now());
                self.socket.send_to(&message, &to).map(|_| now)
            })
            .await
            .map_err(|source| PingError::NotSent {
                target,
                refusal: Refusal::of(&source),
                source,
            })?;
        loop {
            let buffer = &mut self.buffer;
            let (len, stamp) = ready
                .async_io(Interest::READABLE, |fd| {
                    socket::receive_stamped(fd.as_raw_fd(), buffer)
                })
                .await
                .map_err(receive)?;
            // The kernel's stamp does not contain the wait for our thread to be scheduled. It
            // is wall clock, which may be set meanwhile: then our own clock has to do.
            let longest = sent.elapsed();
            let rtt = stamp
                .and_then(|stamp| stamp.duration_since(sent_wall).ok())
                .filter(|rtt| *rtt <= longest)
                .unwrap_or(longest);
            let packet = self.buffer.get(..len).unwrap_or_default();
            match echo.answer(packet) {
                Some(Answer::Reply { from, ttl }) => {
                    return Ok(EchoReply {
                        from,
                        ttl,
                        rtt,
                        payload: echo.payload_len,
                        sequence: echo.sequence,
                        identifier: echo.identifier,
                    });
                }
                Some(Answer::Corrupted { from, corruption }) => {
                    return Err(PingError::Corrupted {
                        target,
                        from,
                        corruption,
                    });
                }
                Some(Answer::Error { router, error }) => {
                    return Err(PingError::Icmp {
                        target,
                        router,
                        error,
                    });
                }
                // A late answer to an earlier ping, or an error about somebody else's packet.
                None => {}
            }
        }
    }
}

/// For questions to the socket that are not this module's business, such as its cookie.
impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// As `ping` of iputils prints it: `64 bytes from 192.168.2.6: icmp_seq=1 ttl=62 time=0.467 ms`.
impl Display for EchoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.rtt.as_secs_f64() * 1e3;
        // Three digits, and all that stand before the point.
        let digits = match self.rtt.as_millis() {
            0 => 3,
            1..10 => 2,
            10..100 => 1,
            _ => 0,
        };
        write!(
            f,
            "{} bytes from {}: icmp_seq={} ttl={} time={ms:.digits$} ms",
            self.payload + ICMP_HEADER_LEN,
            self.from,
            self.sequence,
            self.ttl,
        )
    }
}

/// One counter for the process: two sockets that live at the same time in the same namespace
/// never share an identifier (unless 65,535 others were opened in between).
fn next_identifier() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
