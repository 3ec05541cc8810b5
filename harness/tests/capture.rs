//! Captures on real packet sockets: filters as the kernel applies them, what metadata says, that
//! nothing is lost.
//!
//! Everything here happens on `lo` (and one TUN device) of the sandbox.
#![cfg(feature = "netns")]

mod frames;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::libc;
use podlab::capture::{Capture, CaptureError, CaptureSocket, Captured, Direction, Filter};
use podlab::packet::{ChecksumState, ChecksumVerdict, LinkType, Packet};
use tokio::sync::{Mutex, MutexGuard};

podlab::sandbox!();

/// Long enough for the slowest machine: a wait ends with the event, not with the time.
const PATIENCE: Duration = Duration::from_secs(30);

/// All tests share `lo`, so they take turns.
async fn lo() -> MutexGuard<'static, ()> {
    static LO: Mutex<()> = Mutex::const_new(());
    let turn = LO.lock().await;
    set_up("lo", true);
    turn
}

fn set_up(device: &str, up: bool) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut request = interface_request(device);
    // SAFETY: both requests take an ifreq, and this one has a name that ends in zero.
    unsafe {
        Errno::result(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS,
            &raw mut request,
        ))
        .unwrap();
        let flags = i32::from(request.ifr_ifru.ifru_flags);
        request.ifr_ifru.ifru_flags = match up {
            true => flags | libc::IFF_UP,
            false => flags & !libc::IFF_UP,
        } as i16;
        Errno::result(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            &raw mut request,
        ))
        .unwrap();
    }
}

fn interface_request(device: &str) -> libc::ifreq {
    // SAFETY: an ifreq is plain data for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    request
}

/// Sends whole Ethernet frames through a device.
struct Sender(socket2::Socket);

impl Sender {
    fn on(device: &str) -> Sender {
        use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
        let index = nix::net::if_::if_nametoindex(device).unwrap();
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: the storage is made for every kind of address.
        let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index.cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: the storage holds an address of that length.
        socket
            .bind(&unsafe { SockAddr::new(storage, length) })
            .unwrap();
        Sender(socket)
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(self.0.send(frame).unwrap(), frame.len());
    }
}

fn start(filter: &Filter) -> Capture {
    Capture::start(CaptureSocket::open("lo", filter).unwrap(), "n1/lo").unwrap()
}

fn of(packets: &[Captured], direction: Direction) -> Vec<Vec<u8>> {
    let selected = packets
        .iter()
        .filter(|captured| captured.direction == direction);
    selected
        .map(|captured| captured.packet.bytes().to_vec())
        .collect()
}

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

/// What each filter is to let through, said in terms of the decoder.
fn filters() -> Vec<(Filter, fn(&Packet) -> bool)> {
    const A: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
    const B: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 6);
    const NODE_A: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 2);
    const NODE_B: Ipv4Addr = Ipv4Addr::new(10, 12, 22, 3);
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
        (Filter::protocol(4), |p| p.ipip_depth() > 0),
        (
            Filter::protocol(4).and(Filter::between(NODE_B, NODE_A)),
            |p| p.ipip_depth() > 0,
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

/// A filter that lets a wrong packet through, or none, makes every assertion on captures worthless.
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

/// A TUN device that is up; it goes with the file. `None` where there is no TUN.
fn tun(name: &str) -> Option<File> {
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        Ok(file) => file,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "/dev/net/tun: {error}");
            eprintln!("skipped: /dev/net/tun: {error}");
            return None;
        }
    };
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: the request takes an ifreq, and this one has a name that ends in zero.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    Errno::result(result).unwrap();
    // Quiet: no router solicitations when it comes up.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
    set_up(name, true);
    Some(file)
}

/// What was on the wire before `stop` is in the recording, though the runtime never had a moment
/// to read it; and nothing that came later.
#[tokio::test]
async fn stop_returns_every_packet_that_was_on_the_wire_before() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4001));
    let sender = Sender::on("lo");
    let sent: Vec<_> = (0..5000u16)
        .map(|n| frames::ethernet(0x0800, &frames::udp(4001, 9, &n.to_be_bytes())))
        .collect();
    sent.iter().for_each(|frame| sender.send(frame));
    let recording = capture.stop().await.unwrap();
    assert_eq!(of(&recording.packets, Direction::Incoming), sent);
    assert_eq!(of(&recording.packets, Direction::Outgoing), sent);
    assert_eq!((recording.device.as_str(), recording.dropped), ("n1/lo", 0));
}

/// `stop` ends although packets keep coming.
#[tokio::test]
async fn stop_ends_under_a_flood() {
    let _turn = lo().await;
    let flood = Flood::start();
    let capture = start(&Filter::everything());
    capture
        .wait_until(|packets| (packets.len() > 1000).then_some(()), PATIENCE)
        .await
        .unwrap();
    let recording = capture.stop().await.unwrap();
    assert!(recording.packets.len() > 1000);
    drop(flood);
}

/// The first moment of a socket is the dangerous one: bound, but without its filter.
#[tokio::test]
async fn nothing_slips_past_a_filter_while_the_socket_is_opened() {
    let _turn = lo().await;
    let flood = Flood::start();
    for _ in 0..300 {
        let capture = start(&!Filter::everything());
        assert_eq!(capture.stop().await.unwrap().packets, []);
    }
    drop(flood);
}

/// A thread that sends as fast as it can.
struct Flood(
    std::sync::Arc<AtomicBool>,
    Option<std::thread::JoinHandle<()>>,
);

impl Flood {
    fn start() -> Flood {
        let go_on = std::sync::Arc::new(AtomicBool::new(true));
        let frame = frames::ethernet(0x0800, &frames::udp(4002, 9, b"flood"));
        let sender = Sender::on("lo");
        let flag = std::sync::Arc::clone(&go_on);
        let thread = std::thread::spawn(move || {
            while flag.load(Ordering::Relaxed) {
                sender.send(&frame);
            }
        });
        Flood(go_on, Some(thread))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

#[tokio::test]
async fn waiting_is_woken_by_the_packet() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4003));
    let sender = Sender::on("lo");
    let send_later = async {
        // The wait below is polled first and finds nothing.
        assert_eq!(capture.packets(), []);
        sender.send(&frames::ethernet(0x0800, &frames::udp(4003, 1, b"")));
        tokio::task::yield_now().await;
        sender.send(&frames::ethernet(0x0800, &frames::udp(4003, 2, b"")));
    };
    let to_port_2 = |seen: &Captured| {
        seen.packet
            .udp()
            .is_some_and(|udp| udp.destination_port == 2)
            && seen.direction == Direction::Incoming
    };
    let (found, ()) = tokio::join!(capture.wait_for(to_port_2, PATIENCE), send_later);
    assert_eq!(found.unwrap().packet.udp().unwrap().destination_port, 2);
    // What was captured before the call counts as well.
    let at_once = capture
        .wait_for(|seen| seen.packet.udp().is_some(), Duration::ZERO)
        .await;
    assert_eq!(at_once.unwrap().packet.udp().unwrap().destination_port, 1);
    let four = |packets: &[Captured]| (packets.len() == 4).then_some(packets.len());
    assert_eq!(capture.wait_until(four, Duration::ZERO).await.unwrap(), 4);
}

#[tokio::test]
async fn waiting_in_vain_tells_what_was_seen() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4004));
    let none = capture
        .wait_for(|_| true, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(
        none.to_string(),
        "n1/lo: not seen within 0ns; no packet was captured"
    );
    Sender::on("lo").send(&frames::ethernet(0x0800, &frames::udp(4004, 1, b"abc")));
    let error = capture
        .wait_for(|_| false, Duration::ZERO)
        .await
        .unwrap_err();
    let CaptureError::NotSeen { ref seen, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(seen.len(), 2);
    let text = error.to_string();
    assert!(text.contains("captured 2 packets:\n"), "{text}");
    assert!(
        text.contains(" n1/lo out: IP 192.168.1.12.4004 > 192.168.2.6.1: UDP, length 3"),
        "{text}"
    );
}

/// Time, length, checksum state and direction are those of the packet.
#[tokio::test]
async fn metadata() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4005));
    let before = SystemTime::now();
    let socket = UdpSocket::bind("127.0.0.1:4005").unwrap();
    socket
        .send_to(b"through the stack", "127.0.0.1:4006")
        .unwrap();
    let after = SystemTime::now();
    let packets = capture.stop().await.unwrap().packets;
    assert_eq!(packets.len(), 2);
    assert_eq!(
        [packets[0].direction, packets[1].direction],
        [Direction::Outgoing, Direction::Incoming]
    );
    for captured in &packets {
        assert!(
            before <= captured.time && captured.time <= after,
            "{captured}"
        );
        assert_eq!(captured.original_length, 14 + 20 + 8 + 17);
        assert_eq!(captured.packet.payload(), b"through the stack");
        // The loopback device claims to compute checksums, so the stack leaves them to it.
        assert_eq!(captured.checksum, ChecksumState::NotReady);
        let raw = captured.packet.transport_checksum(ChecksumState::Complete);
        assert!(
            matches!(raw, Some(ChecksumVerdict::Wrong { .. })),
            "{raw:?}"
        );
        let completed = Packet::decode(LinkType::Ip, captured.canonical_inner().unwrap());
        let verdict = completed.transport_checksum(ChecksumState::Complete);
        assert_eq!(verdict, Some(ChecksumVerdict::Correct));
    }
    assert_eq!(packets[0].canonical_inner(), packets[1].canonical_inner());
    let nanoseconds = packets.iter().map(|captured| {
        captured
            .time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .subsec_nanos()
    });
    assert!(
        nanoseconds.into_iter().any(|n| n % 1000 != 0),
        "stamps count nanoseconds"
    );
}

/// A frame that came with its checksum is not taken for an unfinished one.
#[tokio::test]
async fn a_finished_checksum_is_known_as_such() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4007));
    Sender::on("lo").send(&frames::ethernet(0x0800, &frames::udp(4007, 9, b"x")));
    for captured in capture.stop().await.unwrap().packets {
        assert_eq!(captured.checksum, ChecksumState::Complete);
        assert_eq!(
            captured.transport_checksum(),
            Some(ChecksumVerdict::Correct)
        );
    }
}

/// The kernel takes VLAN tags out of the frame; a recording has them where they were.
#[tokio::test]
async fn vlan_tags_stay_in_the_frame() {
    let _turn = lo().await;
    let capture = start(&Filter::source(frames::POD_A.into()));
    let tagged = [&[0x20, 5, 8, 0][..], &frames::udp(4008, 9, b"x")].concat();
    let frame = frames::ethernet(0x8100, &tagged);
    Sender::on("lo").send(&frame);
    let packets = capture.stop().await.unwrap().packets;
    assert_eq!(of(&packets, Direction::Incoming), [frame.clone()]);
    assert_eq!(packets[0].original_length, frame.len());
}

/// Segmentation offload hands packets of up to 64 KiB to the tap; none of it may be missing.
#[tokio::test]
async fn large_packets_are_captured_whole() {
    let _turn = lo().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let capture = start(&Filter::port(port));
    let data: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let receiver = std::thread::spawn(move || {
        let mut received = Vec::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_end(&mut received)
            .unwrap();
        received
    });
    stream.write_all(&data).unwrap();
    drop(stream);
    assert!(receiver.join().unwrap() == data);
    let recording = capture.stop().await.unwrap();
    assert_eq!(recording.dropped, 0);
    let to_server = recording.packets.iter().filter(|captured| {
        captured.direction == Direction::Outgoing
            && captured
                .packet
                .tcp()
                .is_some_and(|tcp| tcp.destination_port == port)
    });
    let mut first = None;
    let mut rebuilt = vec![0; data.len()];
    let mut largest = 0;
    for captured in to_server {
        assert_eq!(captured.packet.stop(), None, "{captured}");
        assert_eq!(captured.original_length, captured.packet.bytes().len());
        largest = largest.max(captured.original_length);
        let tcp = captured.packet.tcp().unwrap();
        let start = *first.get_or_insert(tcp.sequence.wrapping_add(1));
        let payload = captured.packet.payload();
        if !payload.is_empty() {
            let at = tcp.sequence.wrapping_sub(start) as usize;
            rebuilt[at..at + payload.len()].copy_from_slice(payload);
        }
    }
    assert!(rebuilt == data, "the captured segments are what was sent");
    assert!(
        largest > 60_000,
        "segmentation offload was at work: {largest}"
    );
}

/// A capture that cannot hold everything says how much it lost.
#[tokio::test]
async fn drops_are_counted() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4009));
    let socket = UdpSocket::bind("127.0.0.1:4009").unwrap();
    let sent = 3000;
    let large = vec![0; 60_000];
    for _ in 0..sent {
        socket.send_to(&large, "127.0.0.1:4010").unwrap();
    }
    let recording = capture.stop().await.unwrap();
    assert!(recording.dropped > 0);
    assert_eq!(recording.packets.len() as u64 + recording.dropped, 2 * sent);
}

/// A link that flaps is what a test of an agent is about; the capture must survive it.
#[tokio::test]
async fn a_capture_survives_its_device_going_down() {
    let _turn = lo().await;
    let capture = start(&Filter::port(4011));
    let packet = frames::ethernet(0x0800, &frames::udp(4011, 9, b""));
    let sender = Sender::on("lo");
    sender.send(&packet);
    set_up("lo", false);
    assert_eq!(capture.packets().len(), 2);
    set_up("lo", true);
    Sender::on("lo").send(&packet);
    assert_eq!(capture.stop().await.unwrap().packets.len(), 4);
}

#[tokio::test]
async fn a_dropped_capture_closes_its_socket() {
    let _turn = lo().await;
    let sockets = || {
        std::fs::read_to_string("/proc/net/packet")
            .unwrap()
            .lines()
            .count()
    };
    let before = sockets();
    let capture = start(&Filter::everything());
    assert_eq!(sockets(), before + 1);
    drop(capture);
    while sockets() > before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn errors_name_the_device_and_say_what_to_do() {
    let _turn = lo().await;
    let missing = CaptureSocket::open("ens192", &Filter::everything()).unwrap_err();
    let text = missing.to_string();
    assert!(
        text.starts_with("cannot capture on ens192: no such device\nhint: "),
        "{text}"
    );
    let CaptureError::NoSuchDevice { present, .. } = missing else {
        panic!("{text}")
    };
    assert!(present.contains(&"lo".to_owned()), "{present:?}");
    let any = (1..=400).map(Filter::port).reduce(Filter::or).unwrap();
    let long = CaptureSocket::open("lo", &any).unwrap_err();
    assert!(
        matches!(
            long,
            CaptureError::FilterTooLong {
                instructions: 4097..,
                ..
            }
        ),
        "{long}"
    );
    let unprivileged = std::thread::spawn(|| {
        let nobody = 65534;
        // SAFETY: the system call has no memory arguments. Unlike setresuid(3) it changes this
        // thread alone, which ends here.
        unsafe { libc::syscall(libc::SYS_setresuid, nobody, nobody, nobody) };
        CaptureSocket::open("lo", &Filter::everything()).unwrap_err()
    });
    let error = unprivileged.join().unwrap();
    assert!(
        matches!(error, CaptureError::NotPermitted { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("\nhint: needs CAP_NET_RAW"),
        "{error}"
    );
}

#[test]
fn a_capture_needs_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _turn = runtime.block_on(lo());
    let socket = CaptureSocket::open("lo", &Filter::everything()).unwrap();
    let error = Capture::start(socket, "n1/lo").unwrap_err();
    assert_eq!(error.to_string(), "cannot start a capture on n1/lo");
}
