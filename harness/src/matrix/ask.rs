//! The probes of one question in one round.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use super::Probe;
use super::expectation::{Actual, Failed, Shown};
use super::servers::Servers;
use crate::event::Protocol;
use crate::probe::Failure;
use crate::probe::http::{HttpError, HttpProbe};
use crate::probe::icmp::{EchoSocket, PingError, PingOptions};
use crate::probe::server;
use crate::probe::tcp::{TcpError, TcpProbe};
use crate::probe::udp::{UdpError, UdpOptions, UdpProbe};

/// How many times longer a whole exchange may take than to connect: in it is the work of the
/// server and of the test's own process, which the network is not to be blamed for.
const SERVED: u32 = 6;

/// Where the probes of a question go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddrV4,
    pub(super) path: String,
    /// Whether one of our servers answers, which tells what it saw.
    pub(super) ours: bool,
    pub(super) servers: Arc<Servers>,
}

/// The sockets for the probes of a question.
#[derive(Debug)]
pub(super) enum Sockets {
    Icmp(EchoSocket),
    Udp(UdpProbe),
    /// One for each connection.
    Tcp(Vec<TcpProbe>),
    Http(Vec<HttpProbe>),
}

impl Sockets {
    /// Opens them in the calling thread's network namespace.
    pub(super) fn open(probe: Probe, count: u32) -> Result<Self, Failed> {
        let count = 0..count;
        Ok(match probe.protocol {
            Protocol::Icmp | Protocol::Trace => Self::Icmp(EchoSocket::open().map_err(ping)?),
            Protocol::Udp => Self::Udp(UdpProbe::open().map_err(udp)?),
            Protocol::Tcp => {
                let sockets = count.map(|_| TcpProbe::open()).collect::<Result<_, _>>();
                Self::Tcp(sockets.map_err(tcp)?)
            }
            Protocol::Http => {
                let sockets = count.map(|_| HttpProbe::open()).collect::<Result<_, _>>();
                Self::Http(sockets.map_err(http)?)
            }
        })
    }

    /// Makes `count` probes, one after the other, and gives each this time.
    pub(super) async fn ask(
        self,
        target: &Target,
        probe: Probe,
        count: u32,
        limit: Duration,
    ) -> Actual {
        let mut actual = Actual::default();
        match self {
            Self::Icmp(mut socket) => {
                for _ in 0..count {
                    one_echo(&mut socket, target, probe, limit, &mut actual).await;
                }
            }
            Self::Udp(mut socket) => {
                let options = UdpOptions {
                    payload: probe.size as usize,
                    dont_fragment: probe.dont_fragment,
                    timeout: limit,
                };
                for _ in 0..count {
                    let reply = socket.ask(target.address, &options).await;
                    let reply = reply.map(|reply| Shown {
                        source: Some(reply.seen.source),
                        ttl: reply.seen.ttl,
                        ttl_back: None,
                        latency: reply.rtt,
                    });
                    actual.add(reply.map_err(udp));
                }
            }
            Self::Tcp(sockets) => {
                for socket in sockets {
                    actual.add(one_connection(socket, target, probe, limit).await);
                }
            }
            Self::Http(sockets) => {
                for socket in sockets {
                    actual.add(one_request(socket, target, probe, limit).await);
                }
            }
        }
        actual
    }
}

async fn one_echo(
    socket: &mut EchoSocket,
    target: &Target,
    probe: Probe,
    limit: Duration,
    actual: &mut Actual,
) {
    let options = PingOptions {
        payload: probe.size as usize,
        dont_fragment: probe.dont_fragment,
        timeout: limit,
        ..PingOptions::default()
    };
    let reply = socket.ping(*target.address.ip(), &options).await;
    let (identifier, sequence) = socket.last_request();
    let witness = target.servers.icmp.as_ref();
    let seen = witness.and_then(|witness| witness.take(identifier, sequence));
    if reply.is_err() && seen.is_some() {
        actual.arrived += 1;
    }
    if seen.is_some_and(|(_, times)| times > 1) {
        actual.doubled += 1;
    }
    let seen = seen.map(|(seen, _)| seen);
    let asked = *target.address.ip();
    actual.add(match reply {
        Ok(reply) if reply.from == asked => Ok(Shown {
            source: seen.map(|seen| seen.source),
            ttl: seen.and_then(|seen| seen.ttl),
            ttl_back: Some(reply.ttl),
            latency: reply.rtt,
        }),
        Ok(reply) => Err(Failed {
            how: Failure::Broken,
            error: format!("ping {asked}: answered by {}", reply.from),
        }),
        Err(error) => Err(ping(error)),
    });
}

async fn one_connection(
    socket: TcpProbe,
    target: &Target,
    probe: Probe,
    limit: Duration,
) -> Result<Shown, Failed> {
    if !target.ours {
        let connected = socket.connect(target.address, limit).await.map_err(tcp)?;
        return Ok(Shown {
            source: None,
            ttl: None,
            ttl_back: None,
            latency: connected,
        });
    }
    let reply = socket
        .exchange(target.address, probe.size, limit, limit * SERVED)
        .await;
    reply.map_err(tcp).map(|reply| Shown {
        source: Some(reply.seen.source),
        ttl: reply.seen.ttl,
        ttl_back: None,
        latency: reply.connected,
    })
}

async fn one_request(
    socket: HttpProbe,
    target: &Target,
    probe: Probe,
    limit: Duration,
) -> Result<Shown, Failed> {
    let reply = socket
        .get_connected(target.address, &target.path, limit, limit * SERVED)
        .await;
    let reply = reply.map_err(http)?;
    let broken = |error| {
        Err(Failed {
            how: Failure::Broken,
            error,
        })
    };
    if reply.status != hyper::StatusCode::OK {
        return broken(format!("http {}: status {}", target.address, reply.status));
    }
    if target.ours && !server::is_reflection(&reply.body, probe.size) {
        let got = reply.body.len();
        return broken(format!(
            "http {}: the body of {got} bytes is not the {} that were asked for",
            target.address, probe.size
        ));
    }
    let seen = server::read(&reply.headers);
    Ok(Shown {
        source: seen.map(|seen| seen.source),
        ttl: seen.and_then(|seen| seen.ttl),
        ttl_back: None,
        latency: reply.elapsed,
    })
}

fn ping(error: PingError) -> Failed {
    failed((&error).into(), &error)
}

fn udp(error: UdpError) -> Failed {
    failed((&error).into(), &error)
}

fn tcp(error: TcpError) -> Failed {
    failed((&error).into(), &error)
}

fn http(error: HttpError) -> Failed {
    failed((&error).into(), &error)
}

fn failed(how: Failure, error: &dyn std::error::Error) -> Failed {
    Failed {
        how,
        error: error.to_string(),
    }
}
