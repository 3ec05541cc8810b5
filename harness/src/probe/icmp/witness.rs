//! Echo requests as their target sees them.
//!
//! The kernel answers them; a raw socket beside it gets a copy of each before that. So when a
//! reply has come, the copy of its request is in the queue already.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use etherparse::icmpv4::TYPE_ECHO_REQUEST;
use etherparse::{IcmpEchoHeader, Icmpv4Slice, Ipv4HeaderSlice};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::packet::icmp_of;
use crate::probe::seen::Seen;
use crate::probe::udp::enlarge_receive_buffer;

/// Enough for the headers: the payload is cut off.
const SNAPLEN: usize = 128;

/// Sees the echo requests that arrive in the namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct EchoWitness {
    socket: Socket,
    /// By identifier and sequence number: how, and how often.
    arrived: Mutex<HashMap<(u16, u16), (Seen, u32)>>,
}

impl EchoWitness {
    /// Opens the witness in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::ICMPV4))?;
        socket.attach_filter(&filter())?;
        enlarge_receive_buffer(&socket)?;
        Ok(Self {
            socket,
            arrived: Mutex::default(),
        })
    }

    /// How the request with this identifier and number was seen first, and how often, if it has
    /// arrived. Tells it once.
    pub(crate) fn take(&self, identifier: u16, sequence: u16) -> Option<(Seen, u32)> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        self.drain(&mut arrived);
        arrived.remove(&(identifier, sequence))
    }

    fn drain(&self, arrived: &mut HashMap<(u16, u16), (Seen, u32)>) {
        let mut buffer = [0; SNAPLEN];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    if let Some((echo, seen)) = buffer.get(..length).and_then(request) {
                        arrived.entry(echo).or_insert((seen, 0)).1 += 1;
                    }
                }
                Err(Errno::EINTR) => {}
                // Empty, most often; whatever else it is, there is nothing to be seen.
                Err(_) => return,
            }
        }
    }
}

/// Identifier and number of an echo request, and its sender.
fn request(packet: &[u8]) -> Option<((u16, u16), Seen)> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let icmp: Icmpv4Slice<'_> = icmp_of(&ip, packet.get(ip.slice().len()..)?)?;
    let echo = IcmpEchoHeader::from_bytes(icmp.bytes5to8());
    let seen = Seen {
        source: ip.source_addr(),
        port: 0,
        ttl: Some(ip.ttl()),
    };
    (icmp.type_u8() == TYPE_ECHO_REQUEST).then_some(((echo.id, echo.seq), seen))
}

/// Lets echo requests through, cut off after [`SNAPLEN`] bytes.
fn filter() -> [SockFilter; 5] {
    /// Classic BPF, as in `linux/bpf_common.h`.
    const LOAD_IP_HEADER_LEN_INTO_X: u16 = 0xb1;
    const LOAD_BYTE_AT_X_PLUS: u16 = 0x50;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_IP_HEADER_LEN_INTO_X, 0, 0, 0),
        SockFilter::new(LOAD_BYTE_AT_X_PLUS, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, TYPE_ECHO_REQUEST.into()),
        SockFilter::new(RETURN, 0, 0, SNAPLEN as u32),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
