//! The servers that a matrix has at its targets while it runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Peer, Probe};
use crate::error::Error;
use crate::event::Protocol;
use crate::probe::icmp::EchoWitness;
use crate::probe::server::{self, HttpServer, ServeError, listener, reflection};
use crate::probe::tcp::{self, TcpServer};
use crate::probe::udp::{self, UdpServer};

/// What answers, and what sees, at one target. It stops when dropped.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) icmp: Option<EchoWitness>,
    tcp: Option<TcpServer>,
    udp: Option<UdpServer>,
    http: Option<HttpServer>,
}

/// Port 0: a free one, on all addresses; probes may be translated on their way.
const ANY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

impl Servers {
    /// Starts what `probes` need at `target`. They are reachable when this returns.
    pub(super) fn start(target: &Peer, probes: &[Probe]) -> Result<Self, Error> {
        let needs = |protocol| probes.iter().any(|probe| probe.protocol == protocol);
        let failed = |source: ServeError| Error::Probe {
            machine: target.name().to_owned(),
            source: Box::new(source),
        };
        let listen = |source: io::Error| ServeError::Listen {
            address: ANY,
            source,
        };
        // One visit to the namespace for all sockets.
        let sockets = target.inside(|| {
            let icmp = needs(Protocol::Icmp).then(EchoWitness::open).transpose();
            let tcp = (needs(Protocol::Tcp) && target.tcp_port.is_none())
                .then(|| tcp::listen(ANY))
                .transpose();
            let udp = needs(Protocol::Udp).then(|| udp::listen(ANY)).transpose();
            let http = (needs(Protocol::Http) && target.http.is_none())
                .then(|| listener::open(ANY))
                .transpose();
            Ok((icmp.map_err(listen)?, tcp?, udp?, http.map_err(listen)?))
        })?;
        let (icmp, tcp, udp, http) = match sockets {
            Some(sockets) => sockets.map_err(failed)?,
            None => (None, None, None, None),
        };
        let http = http.map(|listener| HttpServer::bind(listener, reflection()));
        Ok(Self {
            icmp,
            tcp: tcp.map(TcpServer::bind).transpose().map_err(failed)?,
            udp: udp.map(UdpServer::bind).transpose().map_err(failed)?,
            http: http.transpose().map_err(failed)?,
        })
    }

    /// Whether one of these answers a probe, and tells what it saw.
    pub(super) fn is_ours(&self, probe: Probe) -> bool {
        match probe.protocol {
            Protocol::Icmp => self.icmp.is_some(),
            Protocol::Udp => self.udp.is_some(),
            Protocol::Tcp => self.tcp.is_some(),
            Protocol::Http => self.http.is_some(),
            Protocol::Trace => false,
        }
    }

    /// Where a probe is to go, and for HTTP the path; `None` where nobody serves that protocol.
    pub(super) fn address(&self, target: &Peer, probe: Probe) -> Option<(SocketAddrV4, String)> {
        let (port, path) = match probe.protocol {
            Protocol::Icmp => (0, String::new()),
            Protocol::Udp => (self.udp.as_ref()?.port(), String::new()),
            Protocol::Tcp => {
                let own = self.tcp.as_ref().map(TcpServer::port);
                (target.tcp_port.or(own)?, String::new())
            }
            Protocol::Http => match &target.http {
                Some((port, path)) => (*port, path.clone()),
                None => (
                    self.http.as_ref()?.address().port(),
                    server::path(probe.size),
                ),
            },
            Protocol::Trace => return None,
        };
        Some((SocketAddrV4::new(target.address(), port), path))
    }
}
