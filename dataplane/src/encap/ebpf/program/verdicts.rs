//! What `decapsulate` does with single packets, by the kernel's `BPF_PROG_TEST_RUN`: the
//! real program in the real kernel, but no packet goes anywhere. Needs the privileges to
//! load BPF and is therefore part of the feature `netns`. `encapsulate` asks routes and is
//! the scenarios' business.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd},
};

use aya_obj::generated::bpf_cmd::BPF_PROG_TEST_RUN;
use nix::{errno::Errno, libc};

use super::*;

const NODE: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 3);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 9);
const TUNNEL_MAC: [u8; 6] = [2, 1, 2, 3, 4, 5];

/// Verdicts of linux/pkt_cls.h; redirecting is the way into the tunnel.
const NOT_OURS: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

const ETHERNET: usize = 14;
const HEADER: usize = 20;

/// The programs with [`PEER`] as only peer; `None`, after saying so, if this machine does
/// not let us load them.
fn programs() -> Option<Programs> {
    let mut programs = match Programs::load() {
        Ok(programs) => programs,
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let ends = TunnelEnds {
        tunnel: 7,
        mac: Mac(TUNNEL_MAC),
        peer: 6,
        underlay: 2,
        node_address: NODE,
    };
    programs.config.set(0, ends.config(), 0).unwrap();
    programs.set_peers(&BTreeSet::from([PEER.into()])).unwrap();
    Some(programs)
}

/// Verdict and packet after the program.
fn decapsulate(programs: &Programs, packet: &[u8]) -> (i32, Vec<u8>) {
    /// The part of `union bpf_attr` that `BPF_PROG_TEST_RUN` needs here.
    #[repr(C)]
    struct TestRun {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
    }
    let mut out = vec![0; packet.len() + 64];
    let mut run = TestRun {
        prog_fd: programs.decapsulate.as_fd().as_raw_fd().cast_unsigned(),
        retval: 0,
        data_size_in: u32::try_from(packet.len()).unwrap(),
        data_size_out: u32::try_from(out.len()).unwrap(),
        data_in: packet.as_ptr().addr() as u64,
        data_out: out.as_mut_ptr().expose_provenance() as u64,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: `run` is a valid prefix of `union bpf_attr` of the size that is given; both
    // buffers live until the call returns and have the lengths that it names.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN as libc::c_long,
            &raw mut run,
            size_of::<TestRun>(),
        )
    };
    Errno::result(result).unwrap();
    out.truncate(run.data_size_out as usize);
    (run.retval.cast_signed(), out)
}

/// A tunnel packet that is fine; the tests break one thing in it.
#[derive(Clone)]
struct Packet {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    fragment: u16,
    outer_tos: u8,
    inner: Vec<u8>,
    /// Bytes behind the end of the outer packet, as Ethernet pads short ones.
    padding: usize,
}

impl Packet {
    fn new() -> Self {
        let pod = |node| Ipv4Addr::new(192, 168, node, 6);
        Self {
            source: PEER,
            destination: NODE,
            protocol: 4,
            fragment: 0x4000,
            outer_tos: 0,
            inner: [
                header(pod(1), pod(2), 17, 0x4000, 0, 12),
                b"payload 12 b".to_vec(),
            ]
            .concat(),
            padding: 0,
        }
    }

    /// As frame to `lo`, the device that the kernel makes up for a test run.
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend(header(
            self.source,
            self.destination,
            self.protocol,
            self.fragment,
            self.outer_tos,
            self.inner.len(),
        ));
        frame.extend(&self.inner);
        frame.resize(frame.len() + self.padding, 0x55);
        frame
    }
}

fn header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    fragment: u16,
    tos: u8,
    payload: usize,
) -> Vec<u8> {
    let length = u16::try_from(HEADER + payload).unwrap();
    let mut header = vec![0x45, tos];
    header.extend(length.to_be_bytes());
    header.extend([0, 7]);
    header.extend(fragment.to_be_bytes());
    header.extend([63, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let checksum = !sum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// One's complement sum of 16-bit words; 0xffff over a header with a valid checksum.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

/// Pods would get packets that are not what was sent, or tunl0 would not take them.
#[test]
fn the_inner_packet_comes_out_unchanged() {
    let Some(programs) = programs() else { return };
    for padding in [0, 18] {
        let packet = Packet {
            padding,
            ..Packet::new()
        };
        let (verdict, out) = decapsulate(&programs, &packet.frame());
        assert_eq!(verdict, REDIRECT);
        assert_eq!(out[..6], TUNNEL_MAC);
        assert_eq!(out[12..ETHERNET], [8, 0]);
        assert_eq!(out[ETHERNET..out.len() - padding], packet.inner);
    }
}

/// Anybody on the underlay could send into the pod network.
#[test]
fn a_sender_that_is_no_peer_is_dropped() {
    let Some(mut programs) = programs() else {
        return;
    };
    let stranger = Packet {
        source: STRANGER,
        ..Packet::new()
    };
    let fragment = Packet {
        fragment: 0x2000,
        ..stranger.clone()
    };
    assert_eq!(decapsulate(&programs, &stranger.frame()).0, DROP);
    assert_eq!(decapsulate(&programs, &fragment.frame()).0, DROP);

    programs
        .set_peers(&BTreeSet::from([STRANGER.into()]))
        .unwrap();
    assert_eq!(decapsulate(&programs, &stranger.frame()).0, REDIRECT);
    assert_eq!(decapsulate(&programs, &Packet::new().frame()).0, DROP);

    // One of several external senders in a prefix, next to a node of its own.
    let prefix = "10.12.22.8/30".parse().unwrap();
    let peers = BTreeSet::from([prefix, PEER.into()]);
    programs.set_peers(&peers).unwrap();
    assert_eq!(decapsulate(&programs, &stranger.frame()).0, REDIRECT);
    assert_eq!(decapsulate(&programs, &Packet::new().frame()).0, REDIRECT);
    let beyond = Packet {
        source: Ipv4Addr::new(10, 12, 22, 12),
        ..Packet::new()
    };
    assert_eq!(decapsulate(&programs, &beyond.frame()).0, DROP);
}

/// The node's own traffic would vanish on its way through our program.
#[test]
fn everything_else_passes_untouched() {
    let Some(programs) = programs() else { return };
    let fine = Packet::new();
    let mut ipv6 = fine.frame();
    ipv6[12..ETHERNET].copy_from_slice(&[0x86, 0xdd]);
    let mut somebody_elses = fine.frame();
    somebody_elses[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    let with_options = {
        let mut frame = fine.frame();
        frame[ETHERNET] = 0x46;
        frame
    };
    for frame in [
        Packet {
            protocol: 6,
            ..fine.clone()
        }
        .frame(),
        Packet {
            destination: STRANGER,
            ..fine.clone()
        }
        .frame(),
        Packet {
            fragment: 0x2000,
            ..fine.clone()
        }
        .frame(),
        Packet {
            fragment: 0x0001,
            ..fine.clone()
        }
        .frame(),
        with_options,
        ipv6,
        somebody_elses,
    ] {
        assert_eq!(decapsulate(&programs, &frame), (NOT_OURS, frame));
    }
}

/// What IPv4 input would refuse must not come in by the tunnel either.
#[test]
fn malformed_packets_are_dropped() {
    let Some(programs) = programs() else { return };
    let broken = |at: usize, value: u8| {
        let mut frame = Packet::new().frame();
        assert_ne!(frame[at], value);
        frame[at] = value;
        frame
    };
    let inner = |at: usize, value: u8| {
        let mut packet = Packet::new();
        assert_ne!(packet.inner[at], value);
        packet.inner[at] = value;
        packet.frame()
    };
    let no_inner = Packet {
        inner: vec![0x45; HEADER - 1],
        ..Packet::new()
    };
    for (what, frame) in [
        ("checksum", broken(ETHERNET + 10, 0)),
        ("outer header length", broken(ETHERNET, 0x44)),
        (
            "cut short",
            Packet::new().frame()[..ETHERNET + 2 * HEADER + 3].to_vec(),
        ),
        ("no room for an inner header", no_inner.frame()),
        ("inner version", inner(0, 0x65)),
        ("inner header length", inner(0, 0x44)),
        ("inner length", inner(3, 33)),
    ] {
        assert_eq!(decapsulate(&programs, &frame).0, DROP, "{what}");
    }
}

/// Congestion that a router marked on the outer header would be lost, or a mark that no
/// sender understands would reach it (RFC 6040, figure 4).
#[test]
fn ecn_is_carried_inward() {
    let Some(programs) = programs() else { return };
    const DSCP: u8 = 0x60;
    let (not_ect, ect1, ect0, ce) = (0, 1, 2, 3);
    for (inner, outer, expected) in [
        (not_ect, not_ect, Some(not_ect)),
        (not_ect, ect0, Some(not_ect)),
        (not_ect, ect1, Some(not_ect)),
        (not_ect, ce, None),
        (ect0, not_ect, Some(ect0)),
        (ect0, ect0, Some(ect0)),
        (ect0, ect1, Some(ect1)),
        (ect0, ce, Some(ce)),
        (ect1, not_ect, Some(ect1)),
        (ect1, ect0, Some(ect1)),
        (ect1, ect1, Some(ect1)),
        (ect1, ce, Some(ce)),
        (ce, not_ect, Some(ce)),
        (ce, ect0, Some(ce)),
        (ce, ect1, Some(ce)),
        (ce, ce, Some(ce)),
    ] {
        let pod = |node| Ipv4Addr::new(192, 168, node, 6);
        let packet = Packet {
            outer_tos: outer,
            inner: header(pod(1), pod(2), 17, 0, DSCP | inner, 0),
            ..Packet::new()
        };
        let (verdict, out) = decapsulate(&programs, &packet.frame());
        let Some(expected) = expected else {
            assert_eq!(verdict, DROP, "inner {inner}, outer {outer}");
            continue;
        };
        assert_eq!(verdict, REDIRECT, "inner {inner}, outer {outer}");
        let wanted = header(pod(1), pod(2), 17, 0, DSCP | expected, 0);
        assert_eq!(out[ETHERNET..], wanted, "inner {inner}, outer {outer}");
    }
}
