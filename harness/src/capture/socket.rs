//! A packet socket (packet(7)) on one device.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::{if_nameindex, if_nametoindex};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::ring::{Head, Ring};
use super::{CaptureError, Captured, Direction, Filter};
use crate::packet::{ChecksumState, LinkType, Packet};

/// Room for the largest packet a device can carry: GSO packets have at most 512 KiB.
const LARGEST_PACKET: usize = (1 << 19) + 256;

/// What the kernel may hold for a capture that is not read fast enough, in bytes: so much of packets
/// that fit into a slot of the ring, and as much of longer ones. The former has its memory from the
/// beginning.
const RECEIVE_BUFFER: usize = 16 << 20;

/// The kernel's limit, `BPF_MAXINSNS`.
const LONGEST_FILTER: usize = 4096;

/// Devices without link header, as mobile modems have; from `linux/if_arp.h`.
const ARPHRD_RAWIP: u16 = 519;

/// Offset of the VLAN tag in an Ethernet frame, and its length.
const VLAN_OFFSET: usize = 12;
const VLAN_TAG: usize = 4;

/// A bound packet socket: from the moment it exists the kernel keeps packets for it.
///
/// Loopback devices show every packet twice, once outgoing and once incoming.
#[derive(Debug)]
pub struct CaptureSocket {
    // Unmapped before the socket is closed.
    inlet: Mutex<Inlet>,
    socket: ManuallyDrop<Socket>,
    device: String,
    link_type: LinkType,
}

/// Where packets come in.
#[derive(Debug)]
struct Inlet {
    ring: Ring,
    /// Packets of which the kernel has kept only what fits into a slot.
    cut: u64,
}

/// A packet as the kernel hands it over.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) time: SystemTime,
    pub(super) direction: Direction,
    pub(super) checksum: ChecksumState,
    /// Length on the wire, VLAN tag included.
    pub(super) wire_length: usize,
    pub(super) bytes: Bytes,
}

impl Frame {
    /// One without bytes, to put where another was.
    pub(super) fn empty() -> Frame {
        Frame {
            time: SystemTime::UNIX_EPOCH,
            direction: Direction::Incoming,
            checksum: ChecksumState::Complete,
            wire_length: 0,
            bytes: Bytes::new(),
        }
    }

    /// Decodes it. `tap` is where it was seen.
    pub(super) fn captured(self, link_type: LinkType, tap: Arc<str>) -> Captured {
        Captured {
            time: self.time,
            direction: self.direction,
            device: tap,
            original_length: self.wire_length,
            checksum: self.checksum,
            packet: Packet::decode_cut(link_type, self.bytes, self.wire_length),
        }
    }
}

/// Memory for packets that are longer than a slot of the ring.
pub(super) struct ReceiveBuffer(Vec<u8>);

impl CaptureSocket {
    /// Opens a socket on `device` in the network namespace of the calling thread, where it stays
    /// whatever the thread does later.
    ///
    /// No packet that `filter` refuses gets in, not even in the first moment. The device is not
    /// made promiscuous; the virtual devices of a test network show everything anyway.
    ///
    /// # Errors
    ///
    /// The device does not exist or is of a kind whose packets cannot be read, the process lacks
    /// `CAP_NET_RAW`, the filter is too long, or a system call fails.
    pub fn open(device: &str, filter: &Filter) -> Result<CaptureSocket, CaptureError> {
        Self::open_with_buffer(device, filter, RECEIVE_BUFFER)
    }

    /// [`open`](Self::open) with a limit of your own for what the kernel may hold, in bytes.
    pub(crate) fn open_with_buffer(
        device: &str,
        filter: &Filter,
        buffer: usize,
    ) -> Result<CaptureSocket, CaptureError> {
        let failed = |operation| {
            move |source: io::Error| CaptureError::System {
                operation,
                device: device.to_owned(),
                source,
            }
        };
        let program = filter.program().to_socket_filter();
        if program.len() > LONGEST_FILTER {
            let (device, instructions) = (device.to_owned(), program.len());
            return Err(CaptureError::FilterTooLong {
                device,
                instructions,
            });
        }
        let index = if_nametoindex(device).map_err(|errno| match errno {
            Errno::ENODEV | Errno::EINVAL => no_such_device(device),
            errno => failed("find the device")(errno.into()),
        })?;
        // Protocol 0 receives nothing: packets come in with the bind, when the filter is in place.
        let socket =
            Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).map_err(|source| {
                match source.kind() {
                    io::ErrorKind::PermissionDenied => CaptureError::NotPermitted {
                        device: device.to_owned(),
                        source,
                    },
                    _ => failed("open a packet socket")(source),
                }
            })?;
        socket
            .set_nonblocking(true)
            .map_err(failed("make a socket non-blocking"))?;
        socket
            .attach_filter(&program)
            .map_err(failed("attach the filter"))?;
        set_receive_buffer(&socket, buffer).map_err(failed("enlarge the receive buffer"))?;
        let ring = Ring::new(&socket, buffer).map_err(failed("make a ring for packets"))?;
        socket
            .bind(&link_address(index))
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ENODEV | libc::ENXIO) => no_such_device(device),
                _ => failed("bind a packet socket")(source),
            })?;
        let arphrd = hardware_type(&socket).map_err(failed("read the link type"))?;
        let device = device.to_owned();
        match link_type(arphrd) {
            Some(link_type) => Ok(CaptureSocket {
                inlet: Mutex::new(Inlet { ring, cut: 0 }),
                socket: ManuallyDrop::new(socket),
                device,
                link_type,
            }),
            None => Err(CaptureError::UnknownLinkType { device, arphrd }),
        }
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What the packets of the device begin with.
    #[must_use]
    pub fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// Takes the next packet; `EAGAIN` when there is none, `ENETDOWN` once when the device went
    /// down.
    pub(super) fn receive(&self, buffer: &mut ReceiveBuffer) -> nix::Result<Frame> {
        // Every step leaves it usable.
        let mut inlet = self.inlet.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = inlet.ring.next(|head, packet| {
                let whole = packet.len() == head.length;
                (head, whole, self.with_vlan_tag(&head, packet))
            });
            let (head, whole, bytes) = next.ok_or_else(|| self.nothing_there())?;
            let bytes = match head.status & libc::TP_STATUS_COPY {
                0 if !whole => {
                    inlet.cut += 1;
                    continue;
                }
                0 => bytes,
                _ => match self.receive_long(buffer) {
                    Ok(length) => self.with_vlan_tag(&head, &buffer.0[..length]),
                    Err(Errno::EAGAIN) => {
                        inlet.cut += 1;
                        continue;
                    }
                    Err(errno) => return Err(errno),
                },
            };
            return Ok(self.frame(&head, bytes));
        }
    }

    /// The packet beside the ring, of which a slot has told.
    fn receive_long(&self, buffer: &mut ReceiveBuffer) -> nix::Result<usize> {
        loop {
            match recv(
                self.socket.as_raw_fd(),
                &mut buffer.0,
                MsgFlags::MSG_DONTWAIT,
            ) {
                // That of the device comes first, and belongs to no packet.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                other => return other,
            }
        }
    }

    /// Why the ring is empty. An error would make the socket readable until it is asked for.
    fn nothing_there(&self) -> Errno {
        match self.socket.take_error() {
            Ok(Some(error)) => Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
            _ => Errno::EAGAIN,
        }
    }

    fn frame(&self, head: &Head, bytes: Bytes) -> Frame {
        let tagged = self.is_tagged(head);
        Frame {
            time: SystemTime::UNIX_EPOCH + Duration::new(head.seconds.into(), head.nanoseconds),
            direction: match head.outgoing {
                true => Direction::Outgoing,
                false => Direction::Incoming,
            },
            checksum: match head.status & libc::TP_STATUS_CSUMNOTREADY {
                0 => ChecksumState::Complete,
                _ => ChecksumState::NotReady,
            },
            wire_length: head.length + if tagged { VLAN_TAG } else { 0 },
            bytes,
        }
    }

    fn is_tagged(&self, head: &Head) -> bool {
        head.status & libc::TP_STATUS_VLAN_VALID != 0 && self.link_type == LinkType::Ethernet
    }

    fn with_vlan_tag(&self, head: &Head, packet: &[u8]) -> Bytes {
        match self.is_tagged(head) {
            true => insert_vlan_tag(packet, head),
            false => Bytes::copy_from_slice(packet),
        }
    }

    /// Packets that were lost because they were not read fast enough, since the last call.
    pub(super) fn take_drops(&self) -> io::Result<u64> {
        let mut inlet = self.inlet.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = std::mem::take(&mut inlet.cut);
        Ok(cut + u64::from(statistics(&self.socket)?.tp_drops))
    }

    /// Whether the device was removed: no packet will come any more. One that is down may come up
    /// again.
    pub(super) fn is_gone(&self) -> bool {
        /// What the kernel sets in place of the index of a device that was removed.
        const REMOVED: i32 = -1;
        link_of(&self.socket).is_ok_and(|address| address.sll_ifindex == REMOVED)
    }

    /// Lets no further packet in. What was let in before stays readable.
    pub(super) fn close_filter(&self) -> io::Result<()> {
        let nothing = (!Filter::everything()).program().to_socket_filter();
        self.socket.attach_filter(&nothing)
    }
}

impl Drop for CaptureSocket {
    /// Does not wait for the kernel, which closes a packet socket when no processor can be using
    /// it any more: some ten milliseconds later, and captures have dozens of them.
    fn drop(&mut self) {
        // SAFETY: nobody uses the field after the drop.
        let socket = unsafe { ManuallyDrop::take(&mut self.socket) };
        let closing = std::thread::Builder::new().name("capture-close".to_owned());
        // Without a thread it is closed here.
        closing.spawn(move || drop(socket)).ok();
    }
}

impl AsRawFd for CaptureSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for CaptureSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl ReceiveBuffer {
    pub(super) fn new() -> ReceiveBuffer {
        ReceiveBuffer(vec![0; LARGEST_PACKET])
    }
}

fn no_such_device(device: &str) -> CaptureError {
    let present = if_nameindex().map_or_else(
        |_| Vec::new(),
        |names| {
            names
                .iter()
                .map(|name| name.name().to_string_lossy().into_owned())
                .collect()
        },
    );
    CaptureError::NoSuchDevice {
        device: device.to_owned(),
        present,
    }
}

/// The limit for ordinary users (`net.core.rmem_max`) is far too low, so force it where possible.
fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    match setsockopt(socket, sockopt::RcvBufForce, &bytes) {
        Err(Errno::EPERM) => socket.set_recv_buffer_size(bytes),
        other => Ok(other?),
    }
}

/// Counts packets and drops since it was called last.
fn statistics(socket: &Socket) -> io::Result<libc::tpacket_stats> {
    let mut statistics = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the option writes a tpacket_stats, at most `length` bytes of it, and both live
    // beyond the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    Errno::result(result)?;
    Ok(statistics)
}

/// The address that binds a packet socket to all packets of one device.
fn link_address(index: u32) -> SockAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: the storage is large and aligned enough for every kind of address, and a
    // sockaddr_ll is plain data.
    unsafe { *storage.view_as::<libc::sockaddr_ll>() = address };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage holds an address of that length.
    unsafe { SockAddr::new(storage, length) }
}

/// The kernel's number for the kind of device that a packet socket is bound to (`ARPHRD_…`).
fn hardware_type(socket: &Socket) -> io::Result<u16> {
    Ok(link_of(socket)?.sll_hatype)
}

/// The address that a packet socket is bound to.
fn link_of(socket: &Socket) -> io::Result<libc::sockaddr_ll> {
    let address = socket.local_addr()?;
    // SAFETY: the storage behind the pointer is larger than a sockaddr_ll, aligned for it and
    // initialised, and the address of a packet socket is one.
    Ok(unsafe { *address.as_ptr().cast::<libc::sockaddr_ll>() })
}

fn link_type(arphrd: u16) -> Option<LinkType> {
    match arphrd {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(LinkType::Ethernet),
        libc::ARPHRD_TUNNEL | libc::ARPHRD_NONE | ARPHRD_RAWIP | libc::ARPHRD_SIT => {
            Some(LinkType::Ip)
        }
        _ => None,
    }
}

/// Puts back the VLAN tag that the kernel took out of the frame.
fn insert_vlan_tag(frame: &[u8], head: &Head) -> Bytes {
    let at = frame.len().min(VLAN_OFFSET);
    let kind = match head.status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => libc::ETH_P_8021Q as u16,
        _ => head.vlan_tpid,
    };
    let (before, after) = frame.split_at(at);
    let tag = [kind.to_be_bytes(), head.vlan_tci.to_be_bytes()].concat();
    [before, &tag, after].concat().into()
}
