//! Listening sockets for many clients at once.

use std::io;
use std::net::{SocketAddrV4, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::probe::saved_syn;

/// Connections that may wait to be accepted; the kernel drops further SYNs. All sources of a large
/// matrix connect at the same time. `net.core.somaxconn` limits it (4096 by default).
const BACKLOG: i32 = 4096;

/// A non-blocking listener that keeps the headers of SYNs, in the calling thread's namespace.
pub(crate) fn open(address: SocketAddrV4) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))?;
    // As std does: an address that is in TIME_WAIT only may be listened on again.
    socket.set_reuse_address(true)?;
    saved_syn::keep(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
