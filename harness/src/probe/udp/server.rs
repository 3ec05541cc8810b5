//! The server that answers UDP probes, in any namespace.

use std::io;
use std::net::SocketAddrV4;

use socket2::Socket;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::debug;

use super::socket;
use crate::probe::server::ServeError;

/// Opens the socket of a server on `address` in the calling thread's network namespace; port 0
/// takes a free one. Probes queue in the kernel until [`UdpServer::bind`] takes them.
///
/// # Errors
/// [`ServeError::Listen`].
pub fn listen(address: SocketAddrV4) -> Result<Socket, ServeError> {
    socket::server(address).map_err(|source| ServeError::Listen { address, source })
}

/// A server that answers UDP probes. It stops when dropped.
#[derive(Debug)]
pub struct UdpServer {
    port: u16,
    task: JoinHandle<()>,
}

impl UdpServer {
    /// Answers the probes that arrive at `socket`, which is made in its namespace by [`listen`],
    /// on the current tokio runtime.
    ///
    /// # Errors
    /// [`ServeError::Register`], also when there is no current runtime.
    pub fn bind(socket: Socket) -> Result<Self, ServeError> {
        let register = |source| ServeError::Register { source };
        let runtime = Handle::try_current().map_err(|error| register(io::Error::other(error)))?;
        let port = port_of(&socket).map_err(register)?;
        let socket = UdpSocket::from_std(socket.into()).map_err(register)?;
        let task = runtime.spawn(serve(socket));
        Ok(Self { port, task })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket_ipv4();
    address
        .map(|address| address.port())
        .ok_or_else(|| io::Error::other("no IPv4 socket"))
}

async fn serve(socket: UdpSocket) {
    let mut buffer = vec![0; socket::LARGEST];
    loop {
        let answered = socket
            .async_io(Interest::READABLE, || socket::reflect(&socket, &mut buffer))
            .await;
        // Of an earlier answer that came to nobody: the socket itself stays good.
        if let Err(error) = answered {
            debug!(%error, "receive a udp probe");
        }
    }
}
