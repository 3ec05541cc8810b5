//! Probes from a machine, and the servers that answer them.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::Machine;
use crate::error::Error;
use crate::event::{How, Protocol};
use crate::probe::http::{HttpProbe, HttpReply};
use crate::probe::icmp::{EchoReply, EchoSocket, PingOptions};
use crate::probe::server::{self, Answers, HttpServer};

impl Machine {
    /// Sends one ICMP echo request and waits for its answer.
    ///
    /// The target is an address, or a handle on a pod or a node.
    ///
    /// # Errors
    /// When nothing comes back within a second (scaled by the patience factor), when a router
    /// reports an error, or when the request cannot be sent.
    pub async fn ping(&self, target: impl Into<Ipv4Addr>) -> Result<EchoReply, Error> {
        self.ping_with(target, &PingOptions::default()).await
    }

    /// [`ping`](Self::ping) with a size, ttl, DF bit or source address of your choice.
    ///
    /// # Errors
    /// The same.
    pub async fn ping_with(
        &self,
        target: impl Into<Ipv4Addr>,
        options: &PingOptions,
    ) -> Result<EchoReply, Error> {
        let target = target.into();
        let mut socket = self.open(EchoSocket::open)?;
        let how = How::by(Protocol::Icmp)
            .size(u32::try_from(options.payload).unwrap_or(u32::MAX))
            .dont_fragment(options.dont_fragment);
        let record = self.events().probe(self.name(), target, how);
        let reply = socket.ping(target, options).await;
        record.ended(&reply, |reply| format!("ttl={}", reply.ttl));
        reply.map_err(|e| self.probe(e))
    }

    /// [`ping_with`](Self::ping_with) of which the event log hears nothing.
    pub(crate) async fn quiet_ping(
        &self,
        target: Ipv4Addr,
        options: &PingOptions,
    ) -> Result<EchoReply, Error> {
        let mut socket = self.open(EchoSocket::open)?;
        let reply = socket.ping(target, options).await;
        reply.map_err(|e| self.probe(e))
    }

    /// Asks an HTTP server for `path`.
    ///
    /// # Errors
    /// When there is no whole answer within five seconds (scaled); the error says how far it got.
    pub async fn http_get(
        &self,
        target: impl Into<Ipv4Addr>,
        port: u16,
        path: &str,
    ) -> Result<HttpReply, Error> {
        let target = SocketAddrV4::new(target.into(), port);
        let probe = self.open(HttpProbe::open)?;
        let how = How::by(Protocol::Http).port(port);
        let record = self.events().probe(self.name(), *target.ip(), how);
        let reply = probe.get(target, path, HttpProbe::TIMEOUT).await;
        record.ended(&reply, HttpReply::to_string);
        reply.map_err(|e| self.probe(e))
    }

    /// Opens a socket in its network.
    fn open<T, E>(&self, open: impl FnOnce() -> Result<T, E> + Send) -> Result<T, Error>
    where
        T: Send,
        E: std::error::Error + Send + Sync + 'static,
    {
        let opened = self.live()?.namespaces().run(open)?;
        opened.map_err(|e| self.probe(e))
    }

    /// Answers HTTP on a TCP port of all its addresses; it listens when this returns, and stops
    /// when the server is dropped. Port 0 takes a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve_http(&self, port: u16, answers: impl Answers) -> Result<HttpServer, Error> {
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        let listener = self.live()?.namespaces().run(|| server::listen(address))?;
        let listener = listener.map_err(|e| self.probe(e))?;
        HttpServer::bind(listener, answers).map_err(|e| self.probe(e))
    }

    /// Says from where a probe was made: the probe itself knows only where it went.
    fn probe(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Probe {
            machine: self.name().to_owned(),
            source: Box::new(source),
        }
    }
}
