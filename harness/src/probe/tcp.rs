//! TCP probes: a connection on which bytes go there and back, to a server that says how it saw
//! the client.

mod error;
mod message;
mod server;

pub use error::TcpError;
pub use server::{TcpServer, listen};

use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::patience;
use crate::probe::http::Phase;
use crate::probe::seen::Seen;

/// A TCP socket that is to make one connection from the namespace in which it was opened.
#[derive(Debug)]
pub struct TcpProbe {
    socket: Socket,
}

/// What an exchange with a [`TcpServer`] showed: all bytes arrived unchanged in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpReply {
    /// The client as the server saw it.
    pub seen: Seen,
    /// How long it took to connect.
    pub connected: Duration,
    /// From the start of the connection to the last byte of the answer.
    pub elapsed: Duration,
}

impl TcpProbe {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`TcpError::Open`].
    pub fn open() -> Result<Self, TcpError> {
        let kind = Type::STREAM.nonblocking().cloexec();
        Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))
            .map(|socket| Self { socket })
            .map_err(|source| TcpError::Open { source })
    }

    /// Connects to `target`, whatever serves there, and closes the connection again; says how long
    /// it took. To be called on a tokio runtime with I/O and time, in any thread and namespace.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub async fn connect(
        self,
        target: SocketAddrV4,
        limit: Duration,
    ) -> Result<Duration, TcpError> {
        let limit = patience::scaled(limit)?;
        let start = Instant::now();
        self.establish(target, limit).await?;
        Ok(start.elapsed())
    }

    /// Sends `payload` bytes to a [`TcpServer`] and gets as many back: connects within `connect`,
    /// which is the network's part, and has everything within `limit`, in which the server's work
    /// is. To be called as [`connect`](Self::connect).
    ///
    /// # Errors
    /// See [`TcpError`].
    pub async fn exchange(
        self,
        target: SocketAddrV4,
        payload: u32,
        connect: Duration,
        limit: Duration,
    ) -> Result<TcpReply, TcpError> {
        let (connect, limit) = (patience::scaled(connect)?, patience::scaled(limit)?);
        let mut phase = Phase::Connecting;
        let whole = self.there_and_back(target, payload, connect, &mut phase);
        match timeout(limit, whole).await {
            Ok(result) => result,
            Err(_) => Err(TcpError::TimedOut {
                target,
                phase,
                limit,
            }),
        }
    }

    async fn there_and_back(
        self,
        target: SocketAddrV4,
        payload: u32,
        connect: Duration,
        phase: &mut Phase,
    ) -> Result<TcpReply, TcpError> {
        let start = Instant::now();
        let mut stream = self.establish(target, connect).await?;
        let connected = start.elapsed();
        *phase = Phase::Waiting;
        let answer = talk(&mut stream, payload, phase).await;
        let answer = answer.map_err(|source| TcpError::Broken {
            target,
            phase: *phase,
            source,
        })?;
        match answer {
            Some(seen) => Ok(TcpReply {
                seen,
                connected,
                elapsed: start.elapsed(),
            }),
            None => Err(TcpError::Corrupted { target }),
        }
    }

    async fn establish(self, target: SocketAddrV4, limit: Duration) -> Result<TcpStream, TcpError> {
        let stream = TcpSocket::from_std_stream(self.socket.into()).connect(target.into());
        match timeout(limit, stream).await {
            Ok(stream) => stream.map_err(|source| TcpError::connecting(target, source)),
            Err(_) => Err(TcpError::TimedOut {
                target,
                phase: Phase::Connecting,
                limit,
            }),
        }
    }
}

/// `None` when something came back changed.
async fn talk(stream: &mut TcpStream, payload: u32, phase: &mut Phase) -> io::Result<Option<Seen>> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    // At the same time: neither side needs room for the whole of it.
    let write = async {
        writer.write_all(&message::request(payload)).await?;
        writer.shutdown().await
    };
    let read = async {
        let mut head = [0; message::ANSWER];
        reader.read_exact(&mut head).await?;
        *phase = Phase::Reading;
        let mut body = Vec::new();
        reader.read_to_end(&mut body).await?;
        Ok(message::read_answer(&head, &body, payload))
    };
    let (_, seen) = tokio::try_join!(write, read)?;
    Ok(seen)
}
