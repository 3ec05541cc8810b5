//! The ring that the kernel writes packets into (packet(7), `PACKET_RX_RING`, `TPACKET_V2`).
//!
//! Without it a packet socket holds on to the kernel's own packets, and they are what they were on
//! the device only as long as nobody goes on with them: a router that has put fragments together
//! sends them on in the same memory, with new headers, and whoever reads later reads those. The
//! ring has a copy from the moment in which the packet passed.
//!
//! Packets longer than a slot do not fit. The kernel holds on to them in the old way, and says so in
//! the slot; they are super-packets of streams, which nobody puts together.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_uint, tpacket2_hdr};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use socket2::Socket;

/// Bytes of a slot: an Ethernet frame of the usual MTU and what the kernel says about it.
const SLOT: usize = 2048;
/// Bytes that the kernel allocates at a time.
const BLOCK: usize = 1 << 16;

/// The kernel's memory, mapped.
#[derive(Debug)]
pub(super) struct Ring {
    memory: NonNull<libc::c_void>,
    slots: usize,
    /// The slot that is filled next.
    next: usize,
}

// SAFETY: the mapping belongs to the value alone and is the same for every thread.
unsafe impl Send for Ring {}

/// What the kernel says about a packet.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) status: u32,
    /// Length on the device, without VLAN tag.
    pub(super) length: usize,
    pub(super) seconds: u32,
    pub(super) nanoseconds: u32,
    pub(super) vlan_tci: u16,
    pub(super) vlan_tpid: u16,
    pub(super) outgoing: bool,
}

impl Ring {
    /// Gives the socket a ring of about so many bytes. It has to be one that is not bound yet.
    pub(super) fn new(socket: &Socket, bytes: usize) -> io::Result<Self> {
        let blocks = (bytes / BLOCK).max(1);
        let slots = blocks * (BLOCK / SLOT);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as c_uint,
            tp_block_nr: blocks as c_uint,
            tp_frame_size: SLOT as c_uint,
            tp_frame_nr: slots as c_uint,
        };
        set(
            socket,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V2 as c_int),
        )?;
        // Anything but zero: what is longer than a slot is kept whole beside the ring.
        set(socket, libc::PACKET_COPY_THRESH, &(SLOT as c_int))?;
        set(socket, libc::PACKET_RX_RING, &request)?;
        let length = NonZeroUsize::new(slots * SLOT).ok_or(io::ErrorKind::InvalidInput)?;
        let (access, flags) = (
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        );
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let memory = unsafe { mmap(None, length, access, flags, socket, 0) }?;
        Ok(Self {
            memory,
            slots,
            next: 0,
        })
    }

    /// Shows the next packet, headers and as much of it as a slot holds, and gives the slot back.
    /// `None` when there is none.
    pub(super) fn next<T>(&mut self, read: impl FnOnce(Head, &[u8]) -> T) -> Option<T> {
        // SAFETY: within the mapping, as `next` is below the number of slots.
        let slot = unsafe { self.memory.byte_add(self.next * SLOT) };
        // SAFETY: slots begin with the header, of which the first field is the status, and are
        // aligned for it. Kernel and process hand the slot to each other by the status alone.
        let status = unsafe { AtomicU32::from_ptr(slot.as_ptr().cast()) };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot is ours until the status is written; the kernel has filled in header,
        // address and packet, all of them within the slot.
        let (header, address, packet) = unsafe {
            let header = slot.cast::<tpacket2_hdr>().read();
            let address = slot.byte_add(align(size_of::<tpacket2_hdr>()));
            let address = address.cast::<libc::sockaddr_ll>().read();
            let packet = slot.byte_add(header.tp_mac.into()).cast::<u8>();
            let length = (header.tp_snaplen as usize).min(SLOT - usize::from(header.tp_mac));
            let packet = std::slice::from_raw_parts(packet.as_ptr(), length);
            (header, address, packet)
        };
        let head = Head {
            status: header.tp_status,
            length: header.tp_len as usize,
            seconds: header.tp_sec,
            nanoseconds: header.tp_nsec,
            vlan_tci: header.tp_vlan_tci,
            vlan_tpid: header.tp_vlan_tpid,
            outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
        };
        let result = read(head, packet);
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.slots;
        Some(result)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference into it.
        if let Err(error) = unsafe { munmap(self.memory, self.slots * SLOT) } {
            tracing::debug!("capture: unmap a ring: {error}");
        }
    }
}

/// `TPACKET_ALIGN` of linux/if_packet.h.
const fn align(length: usize) -> usize {
    length.next_multiple_of(libc::TPACKET_ALIGNMENT)
}

fn set<T>(socket: &Socket, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the option takes a value of this type, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}
