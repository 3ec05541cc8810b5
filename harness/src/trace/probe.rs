//! The probe itself: one marked packet, and the wait for what answers it.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::Duration;

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, TcpHeader, UdpHeader};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::mark::{LENGTH, Mark, Relation};
use crate::machine::Machine;
use crate::packet::{IcmpMessage, LinkType, Packet};

/// What a probe is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProbeKind {
    /// An ICMP echo request.
    #[default]
    Icmp,
    /// A TCP SYN; both a SYN and a RST answer it.
    Tcp {
        /// The destination port.
        port: u16,
    },
    /// A UDP datagram; "port unreachable" of its destination answers it, too.
    Udp {
        /// The destination port.
        port: u16,
    },
}

/// How a probe ended, as its sender sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// The sender's own kernel refused to send it.
    NotSent {
        /// The `errno`.
        errno: i32,
    },
    /// Somebody reported an error about it.
    Reported {
        /// Who.
        from: Ipv4Addr,
        /// What.
        message: IcmpMessage,
    },
    /// Nothing came back in time.
    Silence,
}

/// Header lengths in bytes.
const IPV4: usize = 20;
const ICMP: usize = 8;
const UDP: usize = 8;

/// The largest IPv4 packet.
const LARGEST: usize = 65_535;

impl std::fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Icmp => f.write_str("ping"),
            Self::Tcp { port } => write!(f, "TCP SYN to port {port}"),
            Self::Udp { port } => write!(f, "UDP datagram to port {port}"),
        }
    }
}

impl ProbeKind {
    fn protocol(self) -> Protocol {
        match self {
            Self::Icmp => Protocol::ICMPV4,
            Self::Tcp { .. } => Protocol::TCP,
            Self::Udp { .. } => Protocol::UDP,
        }
    }

    pub(super) fn mark(self) -> Mark {
        match self {
            Self::Tcp { port } => Mark::new(Some(port)),
            Self::Icmp | Self::Udp { .. } => Mark::new(None),
        }
    }

    /// The transport header and what follows. `size` is that of the whole IPv4 packet.
    fn message(self, mark: &Mark, size: usize, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let fill = |header: usize| {
            let length = size.saturating_sub(IPV4 + header).max(LENGTH);
            // Neither all zero nor of one pattern: a byte that is lost or swapped changes the sum.
            let filler = (LENGTH..length).map(|at| (at * 7 + at / 256) as u8);
            let mut payload = mark.bytes().to_vec();
            payload.extend(filler);
            payload
        };
        match self {
            Self::Icmp => {
                let payload = fill(ICMP);
                let (id, seq) = (mark.identifier(), 1);
                let echo = Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq });
                let header = Icmpv4Header::with_checksum(echo, &payload);
                [header.to_bytes().as_slice(), &payload].concat()
            }
            Self::Udp { port } => {
                let payload = fill(UDP);
                let length = (UDP + payload.len()) as u16;
                let mut header = UdpHeader {
                    source_port: mark.source_port(),
                    destination_port: port,
                    length,
                    checksum: 0,
                };
                let sum = header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &payload);
                header.checksum = sum.unwrap_or(0);
                [header.to_bytes().as_slice(), &payload].concat()
            }
            Self::Tcp { port } => {
                const WINDOW: u16 = 64_240;
                let mut header = TcpHeader::new(mark.source_port(), port, mark.sequence(), WINDOW);
                header.syn = true;
                let sum = header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]);
                header.checksum = sum.unwrap_or(0);
                header.to_bytes().to_vec()
            }
        }
    }
}

/// The sockets of the sender.
pub(super) struct Prober {
    kind: ProbeKind,
    /// Sends, and hears answers of its own protocol.
    own: Socket,
    /// Hears ICMP errors, where `own` does not.
    errors: Option<Socket>,
    source: Ipv4Addr,
    target: Ipv4Addr,
}

impl Prober {
    /// Opens them on `machine`. The source address is the one that the kernel would choose.
    pub(super) fn open(
        machine: &Machine,
        kind: ProbeKind,
        source: Option<Ipv4Addr>,
        target: Ipv4Addr,
        dont_fragment: bool,
    ) -> Result<io::Result<Self>, crate::Error> {
        let open = || {
            let raw = |protocol| {
                let kind = Type::RAW.nonblocking().cloexec();
                Socket::new(Domain::IPV4, kind, Some(protocol))
            };
            let own = raw(kind.protocol())?;
            set_dont_fragment(&own, dont_fragment)?;
            let bound = SocketAddrV4::new(source.unwrap_or(Ipv4Addr::UNSPECIFIED), 0);
            own.bind(&bound.into())?;
            let errors = match kind {
                ProbeKind::Icmp => None,
                _ => Some(raw(Protocol::ICMPV4)?),
            };
            let chosen = source.or_else(|| chosen_source(target));
            Ok(Self {
                kind,
                own,
                errors,
                source: chosen.unwrap_or(Ipv4Addr::UNSPECIFIED),
                target,
            })
        };
        Ok(machine.live()?.namespaces().run(open)?)
    }

    /// Sends one probe of `size` bytes and waits for what comes back.
    pub(super) async fn send(
        &self,
        mark: &Mark,
        size: usize,
        within: Duration,
    ) -> io::Result<Outcome> {
        let message = self.kind.message(mark, size, self.source, self.target);
        let to = SocketAddrV4::new(self.target, 0).into();
        if let Err(error) = self.own.send_to(&message, &to) {
            return match error.raw_os_error() {
                Some(errno) => Ok(Outcome::NotSent { errno }),
                None => Err(error),
            };
        }
        let answer = async {
            match &self.errors {
                None => hear(&self.own, mark).await,
                Some(errors) => tokio::select! {
                    answer = hear(&self.own, mark) => answer,
                    answer = hear(errors, mark) => answer,
                },
            }
        };
        let outcome = match tokio::time::timeout(within, answer).await {
            Ok(outcome) => outcome?,
            Err(_) => return Ok(Outcome::Silence),
        };
        // A closed port is an answer of the one who was asked.
        Ok(match (&outcome, self.kind) {
            (
                Outcome::Reported {
                    from,
                    message: IcmpMessage::Unreachable { code: PORT },
                },
                ProbeKind::Udp { .. },
            ) if *from == self.target => Outcome::Answered,
            _ => outcome,
        })
    }
}

/// "Port unreachable", RFC 792.
const PORT: u8 = 3;

/// Waits for the next packet on a raw socket that has to do with the probe.
async fn hear(socket: &Socket, mark: &Mark) -> io::Result<Outcome> {
    // SAFETY: the borrowed descriptor is that of `socket`, which outlives this function's future
    // and is not closed while it is borrowed.
    let ready = unsafe { AsyncFd::register_with_interest(socket.as_fd(), Interest::READABLE) }
        .map_err(io::Error::from)?;
    let mut buffer = vec![MaybeUninit::uninit(); LARGEST];
    loop {
        let length = ready
            .async_io(Interest::READABLE, |_| socket.recv(&mut buffer))
            .await?;
        let bytes: Vec<u8> = buffer[..length]
            .iter()
            // SAFETY: `recv` has initialised the first `length` bytes.
            .map(|byte| unsafe { byte.assume_init() })
            .collect();
        let packet = Packet::decode(LinkType::Ip, bytes);
        match mark.recognise(&packet) {
            Some((Relation::Reply, _)) => return Ok(Outcome::Answered),
            Some((Relation::ErrorAboutRequest, _)) => {
                if let (Some(ip), Some(icmp)) = (packet.inner_ipv4(), packet.icmp()) {
                    return Ok(Outcome::Reported {
                        from: ip.source,
                        message: icmp.message.clone(),
                    });
                }
            }
            _ => {}
        }
    }
}

/// The source address of a packet to `target` from this thread's network namespace.
fn chosen_source(target: Ipv4Addr) -> Option<Ipv4Addr> {
    const DISCARD: u16 = 9;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP)).ok()?;
    // Connecting a datagram socket sends nothing.
    let to = SocketAddrV4::new(target, DISCARD);
    socket.connect(&to.into()).ok()?;
    Some(*socket.local_addr().ok()?.as_socket_ipv4()?.ip())
}

/// With the bit, what the kernel has learnt of the path is passed over: every probe gets the
/// routers' own answer.
fn set_dont_fragment(socket: &Socket, on: bool) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let mode: libc::c_int = match on {
        true => libc::IP_PMTUDISC_PROBE,
        false => libc::IP_PMTUDISC_DONT,
    };
    // SAFETY: the descriptor is open as long as `socket` is borrowed; pointer and length are
    // those of a live c_int, which is what the option takes, and the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const mode).cast(),
            size_of_val(&mode) as libc::socklen_t,
        )
    };
    Ok(nix::errno::Errno::result(result).map(drop)?)
}
