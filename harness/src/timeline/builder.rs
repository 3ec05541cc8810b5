//! Whom to probe, how, and how often.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::TimelineError;
use super::engine::{Engine, Pair, Server};
use super::line::{Datagrams, Line};
use super::running::Timeline;
use super::tcp::Connections;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::event::{EventLog, Protocol};
use crate::matrix::Peer;
use crate::probe::server::listener;
use crate::probe::udp::{self, packet};

/// A hundred probes a second.
const INTERVAL: Duration = Duration::from_millis(10);
/// The shortest interval that one thread can keep.
const SHORTEST: Duration = Duration::from_micros(100);
/// How long to wait for answers after the last probe.
const GRACE: Duration = Duration::from_secs(1);
/// The payload of `ping`.
const PAYLOAD: usize = 56;

/// A timeline that has not begun; see the [module](super).
#[derive(Debug, Clone)]
#[must_use = "nothing is probed before `start`"]
pub struct TimelineBuilder {
    events: EventLog,
    pairs: Vec<(Peer, Peer)>,
    protocol: Protocol,
    interval: Duration,
    payload: usize,
    grace: Duration,
    cold: bool,
}

impl Cluster {
    /// Begins a timeline: what is lost, and when, see [`timeline`](crate::timeline).
    pub fn timeline(&self) -> TimelineBuilder {
        TimelineBuilder {
            events: self.events().clone(),
            pairs: Vec::new(),
            protocol: Protocol::Icmp,
            interval: INTERVAL,
            payload: PAYLOAD,
            grace: GRACE,
            cold: false,
        }
    }
}

impl TimelineBuilder {
    /// Adds a pair: the first probes the second.
    pub fn pair(mut self, from: impl Into<Peer>, to: impl Into<Peer>) -> Self {
        self.pairs.push((from.into(), to.into()));
        self
    }

    /// Adds pairs.
    pub fn pairs(
        mut self,
        pairs: impl IntoIterator<Item = (impl Into<Peer>, impl Into<Peer>)>,
    ) -> Self {
        let pairs = pairs.into_iter().map(|(from, to)| (from.into(), to.into()));
        self.pairs.extend(pairs);
        self
    }

    /// Adds all ordered pairs of these.
    pub fn among(mut self, peers: impl IntoIterator<Item = impl Into<Peer>>) -> Self {
        let peers: Vec<Peer> = peers.into_iter().map(Into::into).collect();
        for from in &peers {
            for to in peers.iter().filter(|to| to.name() != from.name()) {
                self.pairs.push((from.clone(), to.clone()));
            }
        }
        self
    }

    /// How many probes per second every pair has; 100 when nothing is said, 10,000 at most.
    pub fn rate(mut self, per_second: u32) -> Self {
        self.interval = Duration::from_secs(1) / per_second.max(1);
        self
    }

    /// The time between two probes of a pair, instead of a [`rate`](Self::rate).
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// ICMP, the default; UDP, which a server of the timeline answers at the target; or TCP, of
    /// which only a connection is made, and one that takes longer than 900 ms is lost: that was
    /// the kernel's second SYN.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Bytes of payload of ICMP and UDP probes, 56 by default; of UDP at least 20.
    pub fn payload(mut self, bytes: u16) -> Self {
        self.payload = bytes.into();
        self
    }

    /// How long after the last probe answers still count: 1 s, stretched by the
    /// [patience](crate::patience) factor. It is waited out only where an answer is missing.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Begins at once. Otherwise every pair has to have had an answer first, so that what neighbour
    /// discovery and a first connection take is no outage.
    pub fn cold(mut self) -> Self {
        self.cold = true;
        self
    }

    /// Starts probing; returns when every pair has had an answer, unless it shall be
    /// [`cold`](Self::cold).
    ///
    /// # Errors
    /// [`TimelineError`], or a pod or node that was removed.
    pub async fn start(self) -> Result<Timeline, Error> {
        if let Some(fault) = self.fault() {
            return Err(TimelineError::Faulty { fault }.into());
        }
        let mut servers: Vec<(String, Server)> = Vec::new();
        let mut pairs = Vec::new();
        for (from, to) in &self.pairs {
            let port = match servers.iter().find(|(name, _)| name == to.name()) {
                Some((_, server)) => Some(server.port),
                None => self.serve(to)?.map(|server| {
                    let port = server.port;
                    servers.push((to.name().to_owned(), server));
                    port
                }),
            };
            let port = to.tcp_port.or(port).unwrap_or(0);
            pairs.push(self.open(from, to, SocketAddrV4::new(to.address(), port))?);
        }
        let servers = servers.into_iter().map(|(_, server)| server).collect();
        let engine = Engine {
            events: self.events.clone(),
            protocol: self.protocol,
            payload: match self.protocol {
                Protocol::Tcp => 0,
                _ => u32::try_from(self.payload).unwrap_or(u32::MAX),
            },
            interval: self.interval,
            grace: crate::patience::scaled(self.grace)?,
            cold: self.cold,
            pairs,
            servers,
        };
        Timeline::start(engine).await
    }

    fn fault(&self) -> Option<String> {
        if self.pairs.is_empty() {
            return Some("it has no pair".to_owned());
        }
        if !(SHORTEST..=Duration::from_secs(3600)).contains(&self.interval) {
            return Some(format!(
                "the interval {:?} is not between {SHORTEST:?} and an hour",
                self.interval
            ));
        }
        if matches!(self.protocol, Protocol::Http | Protocol::Trace) {
            return Some(format!("it cannot probe by {}", self.protocol));
        }
        for (place, (from, to)) in self.pairs.iter().enumerate() {
            let name = format!("{} → {}", from.name(), to.name());
            let same = |(f, t): &(Peer, Peer)| f.name() == from.name() && t.name() == to.name();
            if self.pairs.iter().take(place).any(same) {
                return Some(format!("the pair {name} is there twice"));
            }
            if from.host().is_none() {
                return Some(format!("{} is outside and cannot probe", from.name()));
            }
            let served = match self.protocol {
                Protocol::Udp => to.host().is_some(),
                Protocol::Tcp => to.host().is_some() || to.tcp_port.is_some(),
                _ => true,
            };
            if !served {
                return Some(format!("{} is outside, and no port is named", to.name()));
            }
        }
        None
    }

    /// The server that a target needs.
    fn serve(&self, to: &Peer) -> Result<Option<Server>, Error> {
        const ANY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let socket = match self.protocol {
            Protocol::Udp => to.inside(|| udp::socket::server(ANY).and_then(Server::udp))?,
            Protocol::Tcp if to.tcp_port.is_none() => {
                to.inside(|| listener::open(ANY).and_then(|listener| Server::tcp(listener.into())))?
            }
            _ => None,
        };
        let failed = |source| TimelineError::Socket {
            pair: to.name().to_owned(),
            operation: "open a server",
            source,
        };
        Ok(socket.transpose().map_err(failed)?)
    }

    /// The sockets of a pair.
    fn open(&self, from: &Peer, to: &Peer, target: SocketAddrV4) -> Result<Pair, Error> {
        let payload = self.payload;
        let line = from.inside(|| {
            Ok(match self.protocol {
                Protocol::Tcp => {
                    let count = Connections::needed(self.interval);
                    Line::Tcp(Connections::open(target, count)?)
                }
                Protocol::Udp => {
                    let payload = payload.max(packet::HEADER);
                    Line::Datagrams(Datagrams::udp(target, payload)?)
                }
                _ => Line::Datagrams(Datagrams::icmp(*target.ip(), payload)?),
            })
        })?;
        let pair = format!("{} → {}", from.name(), to.name());
        let line = line.ok_or_else(|| TimelineError::Faulty {
            fault: format!("{} is outside and cannot probe", from.name()),
        })?;
        let line = line.map_err(|source| TimelineError::Socket {
            pair,
            operation: "open the sockets",
            source,
        })?;
        Ok(Pair::new(from.name(), to.name(), line))
    }
}
