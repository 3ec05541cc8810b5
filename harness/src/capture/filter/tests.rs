//! Filters, run by a small interpreter here and checked by the kernel's verifier. What the kernel
//! really captures is tested in `tests/capture.rs`.

use std::net::Ipv4Addr;

use nix::libc;
use proptest::prelude::*;

use super::super::program::Instruction;
use super::Filter;
use crate::packet::tests::frames;

/// Runs a program as the kernel would on an Ethernet frame. A load beyond the packet drops it.
fn accepts(filter: &Filter, frame: &[u8]) -> bool {
    let program: Vec<Instruction> = filter.program().instructions().collect();
    let ether_type = u16::from_be_bytes([frame[12], frame[13]]);
    let network = &frame[14..];
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    loop {
        let Instruction {
            code,
            jump_true,
            jump_false,
            k,
        } = program[at];
        at += 1;
        let code = u32::from(code);
        let load = |size: usize| {
            let start =
                usize::try_from(i64::from(x) + i64::from(k as i32) - i64::from(libc::SKF_NET_OFF))
                    .unwrap();
            let bytes = network.get(start..start + size)?;
            Some(
                bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
            )
        };
        let jump = |condition: bool| usize::from(if condition { jump_true } else { jump_false });
        const LD: u32 = libc::BPF_LD | libc::BPF_IND;
        match code {
            _ if code == libc::BPF_RET => return k != 0,
            _ if code == libc::BPF_LDX | libc::BPF_IMM => x = k,
            _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                assert_eq!(k as i32, libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL);
                a = ether_type.into();
            }
            _ if code == LD | libc::BPF_B => match load(1) {
                Some(v) => a = v,
                None => return false,
            },
            _ if code == LD | libc::BPF_H => match load(2) {
                Some(v) => a = v,
                None => return false,
            },
            _ if code == LD | libc::BPF_W => match load(4) {
                Some(v) => a = v,
                None => return false,
            },
            _ if code == libc::BPF_ALU | libc::BPF_AND => a &= k,
            _ if code == libc::BPF_ALU | libc::BPF_LSH => a <<= k,
            _ if code == libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X => a += x,
            _ if code == libc::BPF_MISC | libc::BPF_TAX => x = a,
            _ if code == libc::BPF_JMP | libc::BPF_JA => at += k as usize,
            _ if code == libc::BPF_JMP | libc::BPF_JEQ => at += jump(a == k),
            _ if code == libc::BPF_JMP | libc::BPF_JSET => at += jump(a & k != 0),
            other => panic!("instruction {other:#x} is not one that the compiler writes"),
        }
    }
}

const A: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const B: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 6);
const NODE_A: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 2);
const NODE_B: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 3);

/// The frames that the filters are tried on, each with its name.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let ip = |packet: &[u8]| frames::ethernet(0x0800, packet);
    let fragment = |header: &mut etherparse::Ipv4Header| {
        header.fragment_offset = 1.try_into().unwrap();
    };
    let with_options = |header: &mut etherparse::Ipv4Header| {
        header.options = etherparse::Ipv4Options::try_from(&[1, 1, 1, 0][..]).unwrap();
    };
    let tcp = &frames::syn()[20..];
    vec![
        ("tcp", ip(&frames::syn())),
        ("udp", ip(&frames::udp(8080, 53, b"x"))),
        ("icmp", ip(&frames::icmp(8, 0, [0; 4], b""))),
        ("ipip tcp", ip(&frames::ipip(&frames::syn()))),
        (
            "ipip icmp",
            ip(&frames::ipip(&frames::icmp(8, 0, [0; 4], b""))),
        ),
        (
            "ipip ipip tcp",
            ip(&frames::ipip(&frames::ipip(&frames::syn()))),
        ),
        (
            "fragment",
            ip(&frames::ipv4_with(
                6,
                frames::POD_A,
                frames::POD_B,
                tcp,
                fragment,
            )),
        ),
        (
            "ipip fragment",
            ip(&frames::ipv4_with(
                4,
                frames::NODE_A,
                frames::NODE_B,
                &frames::syn(),
                fragment,
            )),
        ),
        (
            "options",
            ip(&frames::ipv4_with(
                6,
                frames::POD_A,
                frames::POD_B,
                tcp,
                with_options,
            )),
        ),
        ("arp", frames::ethernet(0x0806, &frames::arp(1, [0; 6]))),
        ("ipv6", frames::ethernet(0x86dd, &[0x60; 60])),
    ]
}

#[track_caller]
fn assert_accepts(filter: Filter, expected: &[&str]) {
    let accepted: Vec<_> = corpus()
        .into_iter()
        .filter(|(_, frame)| accepts(&filter, frame))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(accepted, expected, "{filter}");
}

const IPV4: [&str; 9] = [
    "tcp",
    "udp",
    "icmp",
    "ipip tcp",
    "ipip icmp",
    "ipip ipip tcp",
    "fragment",
    "ipip fragment",
    "options",
];
/// Outer packets of protocol 4.
const IPIP: [&str; 4] = ["ipip tcp", "ipip icmp", "ipip ipip tcp", "ipip fragment"];
/// Those that hold an inner header.
const WITH_INNER: [&str; 3] = ["ipip tcp", "ipip icmp", "ipip ipip tcp"];

#[test]
fn single_terms() {
    let everything: Vec<_> = corpus().iter().map(|(name, _)| *name).collect();
    assert_accepts(Filter::everything(), &everything);
    assert_accepts(!Filter::everything(), &[]);
    assert_accepts(Filter::ipv4(), &IPV4);
    assert_accepts(Filter::arp(), &["arp"]);
    assert_accepts(Filter::protocol(4), &IPIP);
    assert_accepts(
        Filter::source(A),
        &["tcp", "udp", "icmp", "fragment", "options"],
    );
    assert_accepts(Filter::source(B), &[]);
    assert_accepts(Filter::destination(NODE_B), &IPIP);
    assert_accepts(
        Filter::host(B),
        &["tcp", "udp", "icmp", "fragment", "options"],
    );
    assert_accepts(Filter::between(NODE_B, NODE_A), &IPIP);
    assert_accepts(Filter::between(NODE_B, A), &[]);
    assert_accepts(Filter::port(8080), &["tcp", "udp", "options"]);
    assert_accepts(Filter::port(46282), &["tcp", "options"]);
}

#[test]
fn joined_terms() {
    assert_accepts(Filter::protocol(6).and(!Filter::port(8080)), &["fragment"]);
    assert_accepts(Filter::arp().or(Filter::protocol(1)), &["icmp", "arp"]);
    assert_accepts(!(Filter::ipv4().or(Filter::arp())), &["ipv6"]);
    assert_accepts((!Filter::arp()).and(!Filter::ipv4()), &["ipv6"]);
}

#[test]
fn inner_headers() {
    assert_accepts(Filter::inner(Filter::everything()), &WITH_INNER);
    assert_accepts(Filter::inner(Filter::ipv4()), &WITH_INNER);
    assert_accepts(Filter::inner(Filter::arp()), &[]);
    assert_accepts(Filter::inner(Filter::port(8080)), &["ipip tcp"]);
    assert_accepts(
        Filter::inner(Filter::between(B, A)),
        &["ipip tcp", "ipip icmp"],
    );
    assert_accepts(
        Filter::inner(!Filter::port(8080)),
        &["ipip icmp", "ipip ipip tcp"],
    );
    assert_accepts(
        Filter::inner(Filter::inner(Filter::source(A))),
        &["ipip ipip tcp"],
    );
}

#[test]
fn a_filter_prints_like_tcpdump_s() {
    let filter = Filter::protocol(4).and(!Filter::port(6443));
    assert_eq!(filter.to_string(), "(ip proto 4 and not (port 6443))");
    assert_eq!(
        Filter::host(A).to_string(),
        "(src host 192.168.1.12 or dst host 192.168.1.12)"
    );
}

/// Asks the kernel's verifier; a UDP socket takes filters from anybody.
fn attach(filter: &Filter) -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.attach_filter(&filter.program().to_socket_filter())
}

#[test]
fn jumps_further_than_a_byte_reaches_are_bridged() {
    let ports = (1..=200).map(Filter::port);
    let any = ports.reduce(Filter::or).unwrap();
    assert!(any.program().instructions().len() > 2 * 255);
    attach(&any).unwrap();
    for (port, expected) in [(1, true), (100, true), (200, true), (201, false)] {
        let frame = frames::ethernet(0x0800, &frames::udp(9999, port, b""));
        assert_eq!(accepts(&any, &frame), expected, "port {port}");
        assert_eq!(accepts(&!any.clone(), &frame), !expected, "not port {port}");
    }
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let address = prop_oneof![Just(A), Just(B), Just(NODE_A), Just(NODE_B)];
    let term = prop_oneof![
        Just(Filter::everything()),
        Just(Filter::ipv4()),
        Just(Filter::arp()),
        prop_oneof![Just(1u8), Just(4), Just(6), Just(17)].prop_map(Filter::protocol),
        address.clone().prop_map(Filter::source),
        address.prop_map(Filter::destination),
        prop_oneof![Just(53u16), Just(8080)].prop_map(Filter::port),
    ];
    term.prop_recursive(5, 40, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(b)),
            inner.clone().prop_map(|a| !a),
            inner.prop_map(Filter::inner),
        ]
    })
}

proptest! {
    #[test]
    fn joining_is_boolean_and_the_kernel_accepts_it(a in any_filter(), b in any_filter()) {
        for (name, frame) in corpus() {
            let (in_a, in_b) = (accepts(&a, &frame), accepts(&b, &frame));
            prop_assert_eq!(accepts(&a.clone().and(b.clone()), &frame), in_a && in_b, "{}", name);
            prop_assert_eq!(accepts(&a.clone().or(b.clone()), &frame), in_a || in_b, "{}", name);
            prop_assert_eq!(accepts(&!a.clone(), &frame), !in_a, "{}", name);
        }
        prop_assert!(attach(&a.and(b)).is_ok());
    }
}
