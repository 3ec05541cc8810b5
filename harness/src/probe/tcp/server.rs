//! The server that answers TCP probes, in any namespace.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener as StdListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::message;
use crate::patience;
use crate::probe::saved_syn;
use crate::probe::server::{ServeError, listener};

/// How long a client may take for its probe, before the patience factor.
const LIMIT: Duration = Duration::from_secs(30);

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Listens on `address` in the calling thread's network namespace; port 0 takes a free one.
/// Connections queue in the kernel until [`TcpServer::bind`] takes them.
///
/// # Errors
/// [`ServeError::Listen`].
pub fn listen(address: SocketAddrV4) -> Result<StdListener, ServeError> {
    listener::open(address).map_err(|source| ServeError::Listen { address, source })
}

/// A server that answers TCP probes. It stops when dropped.
#[derive(Debug)]
pub struct TcpServer {
    port: u16,
    task: JoinHandle<()>,
}

impl TcpServer {
    /// Answers the probes that connect to `listener`, which is made in its namespace by
    /// [`listen`], on the current tokio runtime.
    ///
    /// # Errors
    /// [`ServeError::Register`], also when there is no current runtime.
    pub fn bind(listener: StdListener) -> Result<Self, ServeError> {
        let limit = patience::scaled(LIMIT)?;
        let register = |source| ServeError::Register { source };
        let runtime = Handle::try_current().map_err(|error| register(io::Error::other(error)))?;
        listener.set_nonblocking(true).map_err(register)?;
        let port = listener.local_addr().map_err(register)?.port();
        let listener = TcpListener::from_std(listener).map_err(register)?;
        let task = runtime.spawn(accept(listener, limit));
        Ok(Self { port, task })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, limit: Duration) {
    // Dropped with this future: no connection outlives the server.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(async move {
                    // A client that breaks off is the client's business: it sees the error.
                    match timeout(limit, serve(stream, peer)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%peer, %error, "tcp probe"),
                        Err(_) => debug!(%peer, "tcp probe takes too long"),
                    }
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let IpAddr::V4(ip) = peer.ip() else {
        return Err(io::Error::other("no IPv4 client"));
    };
    stream.set_nodelay(true)?;
    let ttl = saved_syn::ttl(&stream);
    let mut head = [0; message::REQUEST];
    stream.read_exact(&mut head).await?;
    let announced = message::announced(head);
    let mut body = Vec::new();
    (&mut stream)
        .take(announced.into())
        .read_to_end(&mut body)
        .await?;
    let source = SocketAddrV4::new(ip, peer.port());
    let answer = message::answer(source, ttl, announced, &body);
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    // Until the client has closed: what it sent beyond would make our close a reset.
    let mut rest = [0; 64];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
