//! The probes: each does in miniature what a test would do.

use std::io;
use std::thread;

use nix::libc;

use super::Feature;
use crate::namespace::{MountPlan, Namespaces, try_as_ordinary_user};
use crate::netlink::{Netlink, NetlinkError};

/// `struct tc_netem_qopt` of linux/pkt_sched.h, six 32-bit numbers: nothing but a limit of 1
/// packet, the second. Without it the kernel takes the request for a mistake.
const NETEM_LIMIT_OF_ONE: [u32; 6] = [0, 1, 0, 0, 0, 0];

/// Hostname of the namespaces in which things are tried.
const MACHINE: &str = "trial";

pub(super) fn probe(feature: Feature) -> Result<(), String> {
    match feature {
        Feature::Netem => {
            let options: Vec<u8> = NETEM_LIMIT_OF_ONE
                .iter()
                .flat_map(|number| number.to_ne_bytes())
                .collect();
            in_scratch_namespace(async move |netlink, _| netlink.try_qdisc("netem", &options).await)
        }
        Feature::Ipip => in_scratch_namespace(async |netlink, _| {
            match netlink.try_link("ipip").await {
                // The module's fallback is in every namespace and is such a device already.
                Err(error) if error.source.raw_os_error() == Some(libc::EEXIST) => Ok(()),
                answer => answer,
            }
        }),
        Feature::Bpf => load_program().map_err(|error| format!("load a tc program: {error}")),
        Feature::Userns => try_as_ordinary_user()
            .map_err(|error| format!("unshare user and network as an ordinary user: {error}")),
        Feature::Uso => in_scratch_namespace(async |netlink, namespaces| {
            netlink.set_link_up("lo", true).await?;
            let sent = namespaces.run(send_udp_super_packet);
            let sent = sent.map_err(io::Error::other).flatten();
            sent.map_err(|error| NetlinkError::io("send UDP super-packet", MACHINE, error))
        }),
        Feature::Napi => in_scratch_namespace(async |_, namespaces| {
            const PATH: &str = "/sys/class/net/lo/gro_flush_timeout";
            let written = namespaces.in_mounts(|| std::fs::write(PATH, "0"));
            let written = written.map_err(io::Error::other).flatten();
            written.map_err(|error| NetlinkError::io("set gro_flush_timeout", MACHINE, error))
        }),
    }
}

fn in_scratch_namespace<F>(attempt: F) -> Result<(), String>
where
    F: AsyncFnOnce(Netlink, Namespaces) -> Result<(), NetlinkError> + Send,
{
    let namespaces = Namespaces::create(MACHINE, &MountPlan::default())
        .map_err(|error| format!("make a namespace to try it in: {error}"))?;
    let attempt = || {
        crate::suite::block_on(async {
            let netlink = Netlink::connect(&namespaces, MACHINE)?;
            attempt(netlink, namespaces).await
        })
    };
    // A thread of its own: the caller's may be driving a runtime already.
    match thread::scope(|scope| scope.spawn(attempt).join()) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Loads `r0 = 0; exit` as a tc program and drops it again.
fn load_program() -> io::Result<()> {
    const PROG_LOAD: libc::c_int = 5;
    const SCHED_CLS: u32 = 3;
    // struct bpf_insn: operation, registers, offset (2 bytes), immediate (4 bytes).
    const PROGRAM: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    /// The head of `union bpf_attr` for `BPF_PROG_LOAD`, linux/bpf.h.
    #[repr(C)]
    struct Attributes {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
    }
    let attributes = Attributes {
        prog_type: SCHED_CLS,
        insn_cnt: PROGRAM.len() as u32,
        insns: PROGRAM.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the kernel reads `attributes` in its whole length, and what its addresses point
    // to; all of that outlives the call.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { libc::close(descriptor as libc::c_int) };
    Ok(())
}

/// Sends one through a packet socket on the loopback device, described as two datagrams of one
/// byte by the virtio header in front of it.
fn send_udp_super_packet() -> io::Result<()> {
    use nix::sys::socket::{
        self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage,
    };
    use std::os::fd::AsRawFd;
    const PACKET_VNET_HDR: libc::c_int = 15;
    const LOOPBACK: libc::c_int = 1;
    // struct virtio_net_hdr: checksum still to be made; UDP; headers of 42 bytes, datagrams of 1,
    // the checksum from byte 34 on, 6 bytes behind that.
    let mut frame = vec![1, 5];
    for number in [42_u16, 1, 34, 6] {
        frame.extend(number.to_ne_bytes());
    }
    frame.extend([0; 12]);
    frame.extend((libc::ETH_P_IP as u16).to_be_bytes());
    // IPv4 from and to 127.0.0.1, of 30 bytes: its checksum was reckoned by hand.
    frame.extend([0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 17, 0x3c, 0xcd]);
    frame.extend([127, 0, 0, 1, 127, 0, 0, 1]);
    // UDP to the discard port, and two bytes.
    frame.extend([0, 9, 0, 9, 0, 10, 0, 0, 1, 2]);

    let socket = socket::socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let on: libc::c_int = 1;
    // SAFETY: the option is read from a number that outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_VNET_HDR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    nix::errno::Errno::result(set)?;
    // SAFETY: plain numbers, for which all zeroes are a value.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as libc::c_ushort;
    to.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    to.sll_ifindex = LOOPBACK;
    // SAFETY: an address of a packet socket, of its own length.
    let to = unsafe {
        SockaddrStorage::from_raw(
            (&raw const to).cast(),
            Some(size_of_val(&to) as libc::socklen_t),
        )
    };
    let to = to.ok_or(io::ErrorKind::InvalidInput)?;
    socket::sendto(socket.as_raw_fd(), &frame, &to, MsgFlags::empty())?;
    Ok(())
}
