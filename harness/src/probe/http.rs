//! HTTP/1 GET over a TCP socket of any namespace.

mod error;

pub use error::{HttpError, Phase};

use crate::patience;
use bytes::Bytes;
use futures_util::future::join;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{HOST, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use std::borrow::Cow;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A TCP socket that is to fetch one page from the namespace in which it was opened.
#[derive(Debug)]
pub struct HttpProbe {
    socket: Socket,
}

/// What a server answered, and over which connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpReply {
    /// Version in the status line.
    pub version: Version,
    /// Status code; probes follow no redirects.
    pub status: StatusCode,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Our end of the connection: the source address and port that the packets carried here.
    pub local: SocketAddrV4,
    /// The server's end.
    pub peer: SocketAddrV4,
    /// From the start of the connection to the last byte of the body.
    pub elapsed: Duration,
}

impl HttpReply {
    /// The body as text; what is not UTF-8 in it becomes U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// One line: `HTTP/1.0 200 OK, 20 bytes from 192.168.2.6:8080 in 0.812 ms`.
impl Display for HttpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {}, {} bytes from {} in {:.3} ms",
            self.version,
            self.status,
            self.body.len(),
            self.peer,
            self.elapsed.as_secs_f64() * 1e3,
        )
    }
}

impl HttpProbe {
    /// How long [`HttpProbe::get`] usually waits, before the patience factor. Longer than the
    /// second after which the kernel repeats a SYN that was lost.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`HttpError::Open`].
    pub fn open() -> Result<Self, HttpError> {
        let kind = Type::STREAM.nonblocking().cloexec();
        Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))
            .map(|socket| Self { socket })
            .map_err(|source| HttpError::Open { source })
    }

    /// Makes the connection come from `address`, which must be one of the namespace's own;
    /// otherwise the route decides.
    ///
    /// # Errors
    /// [`HttpError::SourceAddress`].
    pub fn bind(self, address: Ipv4Addr) -> Result<Self, HttpError> {
        self.socket
            .bind(&SocketAddrV4::new(address, 0).into())
            .map_err(|source| HttpError::SourceAddress { address, source })?;
        Ok(self)
    }

    /// Connects to `target`, asks for `path` and reads the answer to its end, all within
    /// `limit`. To be called on a tokio runtime with I/O and time, in any thread and namespace.
    ///
    /// Against a server that lets the client close first (as [`crate::probe::server`] does)
    /// this is seven packets, S, S., ., P., ., P., . — and the FINs after them.
    ///
    /// # Errors
    /// See [`HttpError`]; each but the first few says in which [`Phase`] it happened.
    pub async fn get(
        self,
        target: SocketAddrV4,
        path: &str,
        limit: Duration,
    ) -> Result<HttpReply, HttpError> {
        self.get_connected(target, path, limit, limit).await
    }

    /// [`get`](Self::get) that connects within `connect`, which is the network's part, and has
    /// everything within `limit`, in which the server's work is.
    pub(crate) async fn get_connected(
        self,
        target: SocketAddrV4,
        path: &str,
        connect: Duration,
        limit: Duration,
    ) -> Result<HttpReply, HttpError> {
        let (connect, limit) = (patience::scaled(connect)?, patience::scaled(limit)?);
        let request = request(target, path)?;
        let mut phase = Phase::Connecting;
        let whole = self.exchange(target, request, connect, &mut phase);
        match timeout(limit, whole).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::TimedOut {
                target,
                phase,
                limit,
            }),
        }
    }

    async fn exchange(
        self,
        target: SocketAddrV4,
        request: Request<Empty<Bytes>>,
        limit: Duration,
        phase: &mut Phase,
    ) -> Result<HttpReply, HttpError> {
        let start = Instant::now();
        let connect = |source| HttpError::connecting(target, source);
        let stream = TcpSocket::from_std_stream(self.socket.into()).connect(target.into());
        let stream = match timeout(limit, stream).await {
            Ok(connected) => connected.map_err(connect)?,
            Err(_) => {
                return Err(HttpError::TimedOut {
                    target,
                    phase: *phase,
                    limit,
                });
            }
        };
        let (local, peer) = prepare(&stream).map_err(connect)?;
        *phase = Phase::Waiting;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| HttpError::exchanging(target, *phase, source))?;
        let exchange = async {
            // Owned here: when it goes, the connection is over and the other future ends.
            let answer = async {
                let (head, body) = sender.send_request(request).await?.into_parts();
                *phase = Phase::Reading;
                Ok((head, body.collect().await?.to_bytes()))
            }
            .await;
            drop(sender);
            (answer, start.elapsed())
        };
        // What goes wrong with the connection fails the exchange too, and is reported there;
        // a fault after the answer is of no interest.
        let ((answer, elapsed), _) = join(exchange, connection).await;
        let (head, body) =
            answer.map_err(|source| HttpError::exchanging(target, *phase, source))?;
        Ok(HttpReply {
            version: head.version,
            status: head.status,
            headers: head.headers,
            body,
            local,
            peer,
            elapsed,
        })
    }
}

fn request(target: SocketAddrV4, path: &str) -> Result<Request<Empty<Bytes>>, HttpError> {
    let bad_path = || HttpError::BadPath {
        path: path.to_owned(),
    };
    let uri: Uri = path.parse().map_err(|_| bad_path())?;
    // `example.org:80` is a URI as well, and `*` is one without path.
    if !path.starts_with('/') {
        return Err(bad_path());
    }
    Request::get(uri)
        .header(HOST, target.to_string())
        .header(USER_AGENT, concat!("podlab/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|_| bad_path())
}

/// Sets what makes the packets predictable, and reads both ends of the connection.
fn prepare(stream: &TcpStream) -> std::io::Result<(SocketAddrV4, SocketAddrV4)> {
    stream.set_nodelay(true)?;
    // The answer is acknowledged when it arrives and not together with our FIN. New connections
    // usually begin that way; said here, it does not depend on the kernel's guess.
    socket2::SockRef::from(stream).set_tcp_quickack(true)?;
    Ok((v4(stream.local_addr()?), v4(stream.peer_addr()?)))
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip,
        // The socket was made for IPv4 and has no other addresses.
        IpAddr::V6(ip) => ip.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED),
    };
    SocketAddrV4::new(ip, address.port())
}

#[cfg(test)]
mod tests;
