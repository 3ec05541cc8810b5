//! A filter that lets a wrong packet through, or none, makes every assertion on captures worthless.

use std::io::Write;
use std::net::Ipv4Addr;

use podlab::capture::{Capture, CaptureSocket, Direction, Filter};
use podlab::packet::{LinkType, Packet};

use crate::frames;
use crate::support::{Sender, lo, of, start, tun};

/// The frames that the filters are tried on.
fn corpus() -> Vec<Vec<u8>> {
    let fragment = |header: &mut etherparse::Ipv4Header| {
        header.fragment_offset = 1.try_into().unwrap();
    };
    let with_options = |header: &mut etherparse::Ipv4Header| {
        header.options = etherparse::Ipv4Options::try_from(&[1, 1, 1, 0][..]).unwrap();
    };
    let tcp = &frames::syn()[20..];
    let inner_with_options = frames::ipv4_with(6, frames::POD_A, frames::POD_B, tcp, with_options);
    let ip = [
        frames::syn(),
        frames::udp(8080, 53, b"x"),
        frames::icmp(8, 0, [0; 4], b""),
        frames::ipip(&frames::syn()),
        frames::ipip(&inner_with_options),
        frames::ipip(&frames::icmp(8, 0, [0; 4], b"")),
        frames::ipip(&frames::ipip(&frames::syn())),
        frames::ipv4_with(
            4,
            frames::NODE_A,
            frames::NODE_B,
            &frames::syn(),
            with_options,
        ),
        frames::ipv4_with(4, frames::NODE_A, frames::NODE_B, &frames::syn(), fragment),
        frames::ipv4_with(6, frames::POD_A, frames::POD_B, tcp, fragment),
        inner_with_options,
    ];
    let mut frames: Vec<_> = ip
        .iter()
        .map(|packet| frames::ethernet(0x0800, packet))
        .collect();
    frames.push(frames::ethernet(0x0806, &frames::arp(1, [0; 6])));
    frames.push(frames::ethernet(0x86dd, &[0x60; 60]));
    frames
}

/// Whether a packet is to pass a filter, said in terms of the decoder.
type Predicate = fn(&Packet) -> bool;

/// Filters, and what each is to let through.
fn filters() -> Vec<(Filter, Predicate)> {
    const A: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
    const B: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 6);
    const NODE_A: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 2);
    const NODE_B: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 3);
    fn is_ipip(packet: &Packet) -> bool {
        packet.outer_ipv4().is_some_and(|ip| ip.protocol == 4)
    }
    fn ports(packet: &Packet) -> Option<(u16, u16)> {
        let tcp = packet
            .tcp()
            .map(|tcp| (tcp.source_port, tcp.destination_port));
        tcp.or(packet
            .udp()
            .map(|udp| (udp.source_port, udp.destination_port)))
    }
    fn has_port(packet: &Packet, port: u16) -> bool {
        ports(packet).is_some_and(|(source, destination)| source == port || destination == port)
    }
    vec![
        (Filter::everything(), |_| true),
        (!Filter::everything(), |_| false),
        (Filter::ipv4(), |p| p.outer_ipv4().is_some()),
        (Filter::arp(), |p| p.arp().is_some()),
        (Filter::protocol(4), is_ipip),
        (
            Filter::protocol(4).and(Filter::between(NODE_B, NODE_A)),
            is_ipip,
        ),
        (Filter::between(NODE_B, A), |_| false),
        (Filter::source(A), |p| {
            p.outer_ipv4().is_some_and(|ip| ip.source == A)
        }),
        (Filter::host(B), |p| {
            p.outer_ipv4().is_some_and(|ip| ip.destination == B)
        }),
        (Filter::destination(A), |_| false),
        (Filter::port(8080), |p| {
            p.ipip_depth() == 0 && has_port(p, 8080)
        }),
        (Filter::port(53), |p| p.ipip_depth() == 0 && has_port(p, 53)),
        (Filter::ipv4().and(!Filter::port(8080)), |p| {
            p.outer_ipv4().is_some() && !(p.ipip_depth() == 0 && has_port(p, 8080))
        }),
        (Filter::inner(Filter::everything()), |p| p.ipip_depth() > 0),
        (Filter::inner(Filter::port(8080)), |p| {
            p.ipip_depth() == 1 && has_port(p, 8080)
        }),
        (Filter::inner(!Filter::port(8080)), |p| {
            p.ipip_depth() > 0 && !(p.ipip_depth() == 1 && has_port(p, 8080))
        }),
        (Filter::inner(Filter::inner(Filter::between(A, B))), |p| {
            p.ipip_depth() == 2
        }),
        (!(Filter::ipv4().or(Filter::arp())), |p| {
            p.outer_ipv4().is_none() && p.arp().is_none()
        }),
    ]
}

#[tokio::test]
async fn the_kernel_captures_exactly_what_the_filter_says() {
    let _turn = lo().await;
    let filters = filters();
    let captures: Vec<_> = filters.iter().map(|(filter, _)| start(filter)).collect();
    let sender = Sender::on("lo");
    for frame in corpus() {
        sender.send(&frame);
    }
    for (capture, (filter, expected)) in captures.into_iter().zip(&filters) {
        let packets = capture.stop().await.unwrap().packets;
        let decode = |frame: &Vec<u8>| Packet::decode(LinkType::Ethernet, frame.clone());
        let expected: Vec<_> = corpus()
            .into_iter()
            .filter(|f| expected(&decode(f)))
            .collect();
        assert_eq!(
            of(&packets, Direction::Outgoing),
            expected,
            "outgoing, {filter}"
        );
        assert_eq!(
            of(&packets, Direction::Incoming),
            expected,
            "incoming, {filter}"
        );
    }
}

/// The same filters on a device whose packets have no link header.
#[tokio::test]
async fn filters_work_without_link_header() {
    let _turn = lo().await;
    let Some(mut tun) = tun("podlab-tun") else {
        return;
    };
    let filters = filters();
    let captures: Vec<_> = filters
        .iter()
        .map(|(filter, _)| {
            let socket = CaptureSocket::open("podlab-tun", filter).unwrap();
            assert_eq!(socket.link_type(), LinkType::Ip);
            Capture::start(socket, "n1/podlab-tun").unwrap()
        })
        .collect();
    let packets: Vec<_> = corpus()
        .into_iter()
        .filter(|frame| frame[12..14] == [8, 0])
        .map(|frame| frame[14..].to_vec())
        .collect();
    for packet in &packets {
        tun.write_all(packet).unwrap();
    }
    for (capture, (filter, expected)) in captures.into_iter().zip(&filters) {
        let seen = capture.stop().await.unwrap().packets;
        let decode = |packet: &Vec<u8>| Packet::decode(LinkType::Ip, packet.clone());
        let expected: Vec<_> = packets
            .iter()
            .filter(|p| expected(&decode(p)))
            .cloned()
            .collect();
        assert_eq!(of(&seen, Direction::Incoming), expected, "{filter}");
    }
}
