//! A packet socket (packet(7)) on one device.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::{if_nameindex, if_nametoindex};
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{CaptureError, Captured, Direction, Filter};
use crate::packet::{ChecksumState, LinkType, Packet};

/// Room for the largest packet a device can carry: GSO packets have at most 512 KiB.
const LARGEST_PACKET: usize = (1 << 19) + 256;

/// What the kernel may hold for a capture that is not read fast enough, in bytes. Only what is
/// used counts; a burst at 10 Gbit/s fills it in 50 ms.
pub(super) const RECEIVE_BUFFER: usize = 64 << 20;

/// The kernel's limit, `BPF_MAXINSNS`.
const LONGEST_FILTER: usize = 4096;

/// Devices without link header, as mobile modems have; from `linux/if_arp.h`.
const ARPHRD_RAWIP: u16 = 519;

/// Offset of the VLAN tag in an Ethernet frame.
const VLAN_OFFSET: usize = 12;

/// A bound packet socket: from the moment it exists the kernel keeps packets for it.
///
/// Loopback devices show every packet twice, once outgoing and once incoming.
#[derive(Debug)]
pub struct CaptureSocket {
    socket: Socket,
    device: String,
    link_type: LinkType,
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

/// Memory that packets are received into.
pub(super) struct ReceiveBuffer {
    packet: Vec<u8>,
    control: Vec<u8>,
}

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
    pub(super) fn open_with_buffer(
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
        ask_for_auxiliary_data(&socket).map_err(failed("ask for packet metadata"))?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
            .map_err(|errno| failed("ask for time stamps")(errno.into()))?;
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
                socket,
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

    /// Takes the next packet; `EAGAIN` when there is none.
    pub(super) fn receive(&self, buffer: &mut ReceiveBuffer) -> nix::Result<Frame> {
        let mut parts = [IoSliceMut::new(&mut buffer.packet)];
        // With MSG_TRUNC the length is that of the packet, not of what fitted.
        let message = recvmsg::<LinkAddr>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut buffer.control),
            MsgFlags::MSG_TRUNC,
        )?;
        let mut time = None;
        let mut auxiliary = None;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(stamp) => time = Some(stamp),
                ControlMessageOwned::Unknown(unknown)
                    if unknown.cmsg_header.cmsg_level == libc::SOL_PACKET
                        && unknown.cmsg_header.cmsg_type == libc::PACKET_AUXDATA =>
                {
                    auxiliary = auxiliary_data(&unknown.data_bytes);
                }
                _ => {}
            }
        }
        let outgoing = message
            .address
            .is_some_and(|address| address.pkttype() == libc::PACKET_OUTGOING);
        let length = message.bytes;
        let status = auxiliary.map_or(0, |auxiliary| auxiliary.tp_status);
        let tag = auxiliary.filter(|_| {
            status & libc::TP_STATUS_VLAN_VALID != 0 && self.link_type == LinkType::Ethernet
        });
        let present = &buffer.packet[..length.min(LARGEST_PACKET)];
        let bytes = match tag {
            Some(auxiliary) => insert_vlan_tag(present, &auxiliary),
            None => Bytes::copy_from_slice(present),
        };
        Ok(Frame {
            time: time.map_or_else(SystemTime::now, |stamp| {
                SystemTime::UNIX_EPOCH + Duration::from(stamp)
            }),
            direction: match outgoing {
                true => Direction::Outgoing,
                false => Direction::Incoming,
            },
            checksum: match status & libc::TP_STATUS_CSUMNOTREADY {
                0 => ChecksumState::Complete,
                _ => ChecksumState::NotReady,
            },
            wire_length: length + (bytes.len() - present.len()),
            bytes,
        })
    }

    /// Packets that were lost because they were not read fast enough, since the last call.
    pub(super) fn take_drops(&self) -> io::Result<u64> {
        Ok(statistics(&self.socket)?.tp_drops.into())
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
        ReceiveBuffer {
            packet: vec![0; LARGEST_PACKET],
            control: nix::cmsg_space!(libc::timespec, libc::tpacket_auxdata),
        }
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

/// Makes every packet come with a `tpacket_auxdata`.
fn ask_for_auxiliary_data(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int; `on` is one and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Ok(Errno::result(result).map(drop)?)
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

fn auxiliary_data(bytes: &[u8]) -> Option<libc::tpacket_auxdata> {
    if bytes.len() < size_of::<libc::tpacket_auxdata>() {
        return None;
    }
    // SAFETY: the bytes are as many as the structure has, and every bit pattern is one of its
    // values.
    Some(unsafe {
        bytes
            .as_ptr()
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
    })
}

/// Puts back the VLAN tag that the kernel took out of the frame.
fn insert_vlan_tag(frame: &[u8], auxiliary: &libc::tpacket_auxdata) -> Bytes {
    let at = frame.len().min(VLAN_OFFSET);
    let kind = match auxiliary.tp_status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => libc::ETH_P_8021Q as u16,
        _ => auxiliary.tp_vlan_tpid,
    };
    let (before, after) = frame.split_at(at);
    let tag = [kind.to_be_bytes(), auxiliary.tp_vlan_tci.to_be_bytes()].concat();
    [before, &tag, after].concat().into()
}
