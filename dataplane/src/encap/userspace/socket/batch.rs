//! Many packets per system call, in buffers that are used again.

use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use nix::libc::{self, mmsghdr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::encap::userspace::packet::frame;

/// Bytes from one slot to the next. Not a multiple of the page, so that the first bytes of
/// packets do not compete for the same lines of the cache.
const STRIDE: usize = frame::LONGEST.next_multiple_of(64) + 64;

/// What a slot holds that was used for ordinary packets only.
const ORDINARY: usize = 2048;

/// A batch of received packets, each in a slot for the longest there can be. The kernel gives
/// memory only to those pages of a slot that a packet was long enough for, and takes it back by
/// [`Received::release`].
pub(crate) struct Received {
    buffer: Vec<u8>,
    /// A packet has been longer than [`ORDINARY`] since the last release.
    swollen: bool,
    headers: Vec<mmsghdr>,
    parts: Vec<libc::iovec>,
}

impl Received {
    pub(crate) fn new(slots: usize) -> Self {
        let mut new = Self {
            buffer: vec![0; slots * STRIDE],
            swollen: false,
            headers: Vec::with_capacity(slots),
            parts: Vec::with_capacity(slots),
        };
        // An allocator that has had use for the memory before has written the zeroes itself.
        new.release();
        new
    }

    /// Takes what is waiting, as far as there are slots, in place of the last batch. Returns
    /// how many packets there are.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is waiting; otherwise the socket's error.
    pub(crate) fn receive(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        self.headers.clear();
        self.parts.clear();
        for slot in self.buffer.chunks_exact_mut(STRIDE) {
            self.parts.push(libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            });
        }
        for part in &mut self.parts {
            let mut header = empty();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            self.headers.push(header);
        }
        // SAFETY: every header points to one part, every part to a slot of the buffer; none of
        // them moves or is used otherwise before the call returns.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            self.headers.clear();
            return Err(io::Error::last_os_error());
        }
        self.headers.truncate(count as usize);
        self.swollen |= self.headers.iter().any(|h| h.msg_len as usize > ORDINARY);
        Ok(count as usize)
    }

    /// Whether long packets have left more memory in use than ordinary ones need.
    pub(crate) fn is_swollen(&self) -> bool {
        self.swollen
    }

    /// Gives the buffer's memory back to the kernel, which gives it again page by page as packets
    /// need it. The last batch is gone with it.
    pub(crate) fn release(&mut self) {
        self.headers.clear();
        self.swollen = false;
        let page = page_size();
        let range = self.buffer.as_mut_ptr_range();
        let start = range.start.addr().next_multiple_of(page) - range.start.addr();
        let length = self.buffer.len().saturating_sub(start) / page * page;
        if length == 0 {
            return;
        }
        // SAFETY: the whole pages inside of the buffer, which is private memory that the allocator
        // knows nothing about inside of an allocation; afterwards they read as zeroes, which are as
        // good bytes as any, and nobody else holds a reference to them (`&mut self`).
        let result = unsafe {
            libc::madvise(
                self.buffer[start..].as_mut_ptr().cast(),
                length,
                libc::MADV_DONTNEED,
            )
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            tracing::debug!("userspace: memory stays: {error}");
        }
    }

    /// Where the packet in a slot lies; `None` when it did not fit.
    pub(crate) fn packet(&self, slot: usize) -> Option<Range<usize>> {
        let header = &self.headers[slot];
        let start = slot * STRIDE;
        let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        whole.then_some(start..start + (header.msg_len as usize).min(STRIDE))
    }

    /// All slots.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

/// Packets to send, each made of a head of its own and pieces of somebody's buffer.
///
/// `HEAD` is the longest head in bytes.
#[derive(Default)]
pub(crate) struct ToSend<const HEAD: usize> {
    packets: Vec<Packet<HEAD>>,
    pieces: Vec<Range<usize>>,
    headers: Vec<mmsghdr>,
    parts: Vec<libc::iovec>,
}

struct Packet<const HEAD: usize> {
    socket: usize,
    head: [u8; HEAD],
    head_len: usize,
    pieces: usize,
    /// None where the socket knows.
    to: Option<libc::sockaddr_in>,
}

impl<const HEAD: usize> ToSend<HEAD> {
    /// How many packets wait.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Adds a packet for one of the sockets that [`ToSend::flush`] gets: `heads` one after the
    /// other, then `pieces` of its buffer.
    pub(crate) fn push(
        &mut self,
        socket: usize,
        to: Option<Ipv4Addr>,
        heads: &[&[u8]],
        pieces: &[Range<usize>],
    ) {
        let mut packet = Packet {
            socket,
            head: [0; HEAD],
            head_len: 0,
            pieces: pieces.len(),
            to: to.map(address),
        };
        for head in heads {
            let end = packet.head_len + head.len();
            packet.head[packet.head_len..end].copy_from_slice(head);
            packet.head_len = end;
        }
        self.packets.push(packet);
        self.pieces.extend_from_slice(pieces);
    }

    /// Sends all in their order, and waits for a while where a socket's queue is full. What the
    /// kernel does not take is handed to `failed` and left out.
    pub(crate) fn flush(
        &mut self,
        sockets: &[&OwnedFd],
        buffer: &[u8],
        mut failed: impl FnMut(&io::Error),
    ) {
        self.gather(buffer);
        let mut first = 0;
        for run in self.packets.chunk_by(|a, b| a.socket == b.socket) {
            let headers = &mut self.headers[first..first + run.len()];
            send(sockets[run[0].socket], headers, &mut failed);
            first += run.len();
        }
        self.headers.clear();
        self.packets.clear();
        self.pieces.clear();
    }

    /// Points the kernel's headers to packets and buffer.
    fn gather(&mut self, buffer: &[u8]) {
        self.parts.clear();
        let mut pieces = self.pieces.iter();
        for packet in &self.packets {
            self.parts.push(part(&packet.head[..packet.head_len]));
            let own = pieces.by_ref().take(packet.pieces);
            self.parts
                .extend(own.map(|piece| part(&buffer[piece.clone()])));
        }
        self.headers.clear();
        let mut first = 0;
        for packet in &mut self.packets {
            let count = 1 + packet.pieces;
            let mut header = empty();
            header.msg_hdr.msg_iov = self.parts[first..first + count].as_mut_ptr();
            header.msg_hdr.msg_iovlen = count;
            if let Some(to) = &mut packet.to {
                header.msg_hdr.msg_name = ptr::from_mut(to).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            self.headers.push(header);
            first += count;
        }
    }
}

/// Sends what the headers point to; that has to be unchanged since they were gathered.
fn send(socket: &OwnedFd, headers: &mut [mmsghdr], mut failed: impl FnMut(&io::Error)) {
    let mut waited = false;
    let mut done = 0;
    while done < headers.len() {
        let rest = &mut headers[done..];
        // SAFETY: every header points to parts, and an address, that `gather` took from the
        // packets and the buffer; the caller has not touched either since.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                rest.as_mut_ptr(),
                rest.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        if let Ok(sent) = usize::try_from(sent) {
            waited = false;
            done += sent;
            continue;
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock if !waited => {
                waited = true;
                writable(socket);
            }
            _ => {
                failed(&error);
                done += 1;
            }
        }
    }
}

/// Waits until a socket's queue has room, for as long as no healthy device takes.
fn writable(socket: &OwnedFd) {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if let Err(error) = poll(&mut fds, PollTimeout::from(100u8)) {
        tracing::debug!("userspace: poll: {error}");
    }
}

fn page_size() -> usize {
    // SAFETY: takes and returns numbers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

fn empty() -> mmsghdr {
    // SAFETY: plain numbers and pointers, for which zero is a value ("nothing").
    unsafe { std::mem::zeroed() }
}

fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        // The kernel does not write to what it sends.
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn address(to: Ipv4Addr) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(to.octets()),
        },
        sin_zero: [0; 8],
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// Bytes of this process that are in memory, between two addresses (proc(5), `Rss` in smaps).
    fn resident(received: &Received) -> usize {
        let page = page_size();
        let start = received.buffer.as_ptr().addr().next_multiple_of(page);
        let pages = received.buffer.len() / page - 1;
        let mut states = vec![0u8; pages];
        // SAFETY: one byte for each of the pages, which are inside of the buffer.
        let result = unsafe {
            libc::mincore(
                ptr::with_exposed_provenance_mut(start),
                pages * page,
                states.as_mut_ptr(),
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        states.iter().filter(|state| **state & 1 != 0).count() * page
    }

    /// Otherwise one burst of super-packets would cost 10 MB for the rest of an agent's life.
    #[test]
    fn memory_that_long_packets_needed_is_given_back() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let socket = OwnedFd::from(ours);
        let mut received = Received::new(16);
        received.buffer.as_ptr().expose_provenance();
        let get = |received: &mut Received, length: usize| {
            for _ in 0..4 {
                theirs.send(&vec![7; length]).unwrap();
            }
            assert_eq!(received.receive(&socket).unwrap(), 4);
            let at = received.packet(3).unwrap();
            assert_eq!(received.buffer()[at], vec![7; length]);
        };
        get(&mut received, 1500);
        assert!(!received.is_swollen());
        let ordinary = resident(&received);
        get(&mut received, 40_000);
        assert!(received.is_swollen());
        assert!(resident(&received) > ordinary + 100_000);
        received.release();
        assert!(!received.is_swollen() && resident(&received) <= ordinary);
        get(&mut received, 40_000);
    }
}
