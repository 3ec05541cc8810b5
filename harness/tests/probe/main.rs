//! Probes over real namespaces: pings through a router, and the packets of a GET.
#![cfg(feature = "netns")]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of a test may panic as the test may"
)]

mod tcpdump;
mod world;

use podlab::patience::scaled;
use podlab::probe::http::HttpProbe;
use podlab::probe::icmp::{EchoReply, EchoSocket, IcmpError, PingError, PingOptions};
use podlab::probe::refusal::Refusal;
use podlab::probe::server::{self, HttpServer};
use rstest::rstest;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;
use tcpdump::Tcpdump;
use tokio::process::Command as AsyncCommand;
use world::WORLD;

podlab::sandbox!();

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

async fn ping(target: &str, options: PingOptions) -> Result<EchoReply, PingError> {
    LazyLock::force(&WORLD);
    let mut socket = EchoSocket::open().unwrap();
    socket.ping(target.parse().unwrap(), &options).await
}

#[rstest]
#[case::ourselves("127.0.0.1", 64)]
#[case::one_hop("10.0.1.1", 64)]
#[case::behind_a_router("10.0.2.2", 63)]
#[tokio::test]
async fn the_reply_tells_ttl_source_and_time(#[case] target: &str, #[case] ttl: u8) {
    let reply = ping(target, PingOptions::default()).await.unwrap();
    assert_eq!(reply.ttl, ttl);
    assert_eq!(reply.from.to_string(), target);
    assert_eq!(reply.sequence, 1);
    assert!(reply.rtt > Duration::ZERO, "{reply}");
    let line = format!("64 bytes from {target}: icmp_seq=1 ttl={ttl} time=");
    assert!(reply.to_string().starts_with(&line), "{reply}");
}

#[rstest]
#[tokio::test]
async fn any_payload_comes_back_unchanged(
    #[values(0, 1, 1412, 1413, 65_507)] payload: usize,
    #[values("127.0.0.1", "10.0.2.2")] target: &str,
) {
    let options = PingOptions {
        payload,
        ..PingOptions::default()
    };
    assert_eq!(ping(target, options).await.unwrap().payload, payload);
}

/// The largest packet that fits the link of 1440 passes; one byte more does not, and says why,
/// again and again: what the kernel has learnt of the path does not change the answer.
#[tokio::test]
async fn a_packet_one_byte_too_large_meets_the_router() {
    let options = |payload| PingOptions {
        payload,
        dont_fragment: true,
        ..PingOptions::default()
    };
    assert_eq!(ping("10.0.2.2", options(1412)).await.unwrap().ttl, 63);
    for _ in 0..3 {
        let error = ping("10.0.2.2", options(1413)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "ping 10.0.2.2: 10.0.1.1 says fragmentation needed, mtu 1440"
        );
    }
    let error = ping("10.0.2.2", options(1473)).await.unwrap_err();
    let refused =
        matches!(&error, PingError::NotSent { refusal, .. } if *refusal == Refusal::TooBig);
    assert!(refused, "{error}");
}

#[tokio::test]
async fn a_short_ttl_ends_at_the_router() {
    let options = PingOptions {
        ttl: 1,
        ..PingOptions::default()
    };
    let error = ping("10.0.2.2", options).await.unwrap_err();
    let PingError::Icmp { router, error, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(
        (router, error),
        (ROUTER, IcmpError::TimeExceeded { code: 0 })
    );
}

#[rstest]
#[case::unreachable_there("10.0.3.9", "10.0.1.1 says host unreachable")]
#[case::prohibited_there("10.0.4.9", "10.0.1.1 says administratively prohibited")]
#[case::no_route_there("10.0.77.9", "10.0.1.1 says network unreachable")]
#[case::unreachable_here("10.9.3.9", "not sent: the route is of type unreachable")]
#[case::prohibited_here("10.9.4.9", "not sent: the route is of type prohibit")]
#[case::blackhole_here("10.9.5.9", "not sent: the route is a blackhole (Invalid")]
#[case::no_route_here("203.0.113.1", "not sent: no route leads there (Network")]
#[tokio::test]
async fn a_route_that_drops_is_named(#[case] target: &str, #[case] words: &str) {
    let error = ping(target, PingOptions::default()).await.unwrap_err();
    let message = error.to_string();
    let start = format!("ping {target}: {words}");
    assert!(message.starts_with(&start), "{message}");
}

/// Nothing tells of a blackhole on the way but the silence.
#[tokio::test]
async fn silence_times_out() {
    let options = PingOptions {
        timeout: Duration::from_millis(50),
        ..PingOptions::default()
    };
    let limit = scaled(options.timeout).unwrap();
    let error = ping("10.0.5.9", options).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("ping 10.0.5.9: no answer to icmp_seq=1 within {limit:?}")
    );
}

/// Nobody answers ARP for the address: it is our own kernel that reports it, as a packet.
#[tokio::test]
async fn a_neighbour_that_is_not_there_is_unreachable() {
    let options = PingOptions {
        timeout: Duration::from_secs(10),
        ..PingOptions::default()
    };
    let error = ping("10.0.1.9", options).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ping 10.0.1.9: 10.0.1.2 says host unreachable"
    );
}

/// The far host has no way back to an address of loopback; ours is the one it can answer.
#[tokio::test]
async fn the_source_address_is_ours_to_choose() {
    let mut options = PingOptions {
        source: Some(OURS),
        ..PingOptions::default()
    };
    ping("10.0.2.2", options.clone()).await.unwrap();
    options.source = Some(FAR);
    let message = ping("10.0.2.2", options).await.unwrap_err().to_string();
    assert!(
        message.starts_with("ping 10.0.2.2: cannot send from 10.0.2.2: "),
        "{message}"
    );
}

/// A thousand pings at once, in one namespace: each gets its own reply and no other's.
#[tokio::test]
async fn pings_in_parallel_do_not_mix() {
    LazyLock::force(&WORLD);
    let pings = (0..200_usize).map(|i| async move {
        let mut socket = EchoSocket::open().unwrap();
        for sequence in 1..=5 {
            let options = PingOptions {
                payload: i,
                ..PingOptions::default()
            };
            let reply = socket.ping(FAR, &options).await.unwrap();
            assert_eq!((reply.payload, reply.sequence), (i, sequence));
        }
        socket
    });
    futures_util::future::join_all(pings).await;
}

/// Other pings must not fill a socket's queue, or its own reply is dropped.
#[tokio::test]
async fn replies_to_others_never_reach_a_socket() {
    LazyLock::force(&WORLD);
    let idle = EchoSocket::open().unwrap();
    ping("10.0.2.2", PingOptions::default()).await.unwrap();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
    // Errors about others' packets do get in: other tests run meanwhile.
    while let Ok(len) = socket2::SockRef::from(&idle).recv(&mut buffer) {
        // SAFETY: the first `len` bytes were written by the kernel, and 20 are an IP header.
        let icmp_type = unsafe { buffer[20].assume_init() };
        assert!(len > 20 && icmp_type != 0, "a reply to somebody else");
    }
}

/// The options of a request, as the wire has them. The TTL tells it from other tests' pings.
#[rstest]
#[case(17, true, "tos 0x28, ttl 17, ", "flags [DF], ")]
#[case(18, false, "tos 0x28, ttl 18, ", "flags [none], ")]
#[tokio::test]
async fn tcpdump_sees_the_options_of_a_ping(
    #[case] ttl: u8,
    #[case] dont_fragment: bool,
    #[case] header: &str,
    #[case] flags: &str,
) {
    let options = PingOptions {
        tos: 0x28,
        ttl,
        dont_fragment,
        payload: 100,
        ..PingOptions::default()
    };
    LazyLock::force(&WORLD);
    let filter = format!("icmp[icmptype] == 8 and ip[8] == {ttl}");
    let mut capture = Tcpdump::start("eth0", &["-v"], &filter).await;
    ping("10.0.2.2", options).await.unwrap();
    let line = capture.line().await;
    for words in [header, flags, "length 128"] {
        assert!(line.contains(words), "{line}");
    }
}

/// The program agrees about TTL and source.
#[tokio::test]
async fn the_program_ping_agrees() {
    let reply = ping("10.0.2.2", PingOptions::default()).await.unwrap();
    let output = Command::new("ping")
        .args(["-n", "-c", "1", "10.0.2.2"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let ours = reply.to_string();
    let (ours, _) = ours.split_once("time=").unwrap();
    assert!(text.contains(ours), "{text}");
}

/// Client's packets are `>`, the server's `<`: the seven of the walk-through, and the end.
const SEVEN_PACKETS: &str = ">S <S. >. >P. <. <P. >. ";

fn hello() -> HttpServer {
    LazyLock::force(&WORLD);
    let listener = server::listen(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    HttpServer::bind(listener, server::hello("c2c-network-demo-w2")).unwrap()
}

fn assert_seven_packets(flags: &BTreeMap<u16, String>) {
    for (port, flags) in flags {
        let end = flags.strip_prefix(SEVEN_PACKETS);
        let end = end.unwrap_or_else(|| panic!("client port {port}: {flags}"));
        // The client closes first.
        assert!(end.starts_with(">F. <F. "), "client port {port}: {flags}");
    }
}

/// The seed scenario counts these packets: they must not depend on timing.
#[tokio::test(flavor = "multi_thread")]
async fn a_get_is_seven_packets_and_the_client_closes() {
    const TIMES: usize = 100;
    let server = hello();
    let SocketAddr::V4(target) = server.address() else {
        panic!("{server:?}");
    };
    let filter = format!("tcp port {}", target.port());
    let mut capture = Tcpdump::start("lo", &[], &filter).await;
    for _ in 0..TIMES {
        let probe = HttpProbe::open().unwrap();
        let reply = probe.get(target, "/", HttpProbe::TIMEOUT).await.unwrap();
        assert_eq!(reply.text(), "<p>Hi from c2c-network-demo-w2</p>");
    }
    let flags = capture.flags(server.address(), TIMES).await;
    assert_eq!(flags.len(), TIMES);
    assert_seven_packets(&flags);
}

/// An independent client sees the same server, in both versions of HTTP; in 1.0 it is the
/// server's part to close, and still it comes second.
#[rstest]
#[tokio::test]
async fn curl_agrees(#[values("--http1.1", "--http1.0")] version: &str) {
    let server = hello();
    let address = server.address();
    let filter = format!("tcp port {}", address.port());
    let mut capture = Tcpdump::start("lo", &[], &filter).await;
    let output = AsyncCommand::new("curl")
        .args(["--silent", "--show-error", "--include", version])
        .arg(format!("http://{address}/"))
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    assert!(
        text.ends_with("\r\n\r\n<p>Hi from c2c-network-demo-w2</p>"),
        "{text}"
    );
    assert_seven_packets(&capture.flags(address, 1).await);
    assert_eq!(server.requests().len(), 1);
}

/// The way to a server may be barred like that of a ping.
#[rstest]
#[case("10.9.5.9:80", "the route is a blackhole")]
#[case("10.9.3.9:80", "the route is of type unreachable")]
#[case("203.0.113.1:80", "no route leads there")]
#[case(
    "10.0.3.9:80",
    "the route is of type unreachable, or a neighbour is silent"
)]
#[tokio::test]
async fn a_connection_without_way_says_why(#[case] target: &str, #[case] words: &str) {
    LazyLock::force(&WORLD);
    let probe = HttpProbe::open().unwrap();
    let error = probe
        .get(target.parse().unwrap(), "/", HttpProbe::TIMEOUT)
        .await
        .unwrap_err();
    let start = format!("http {target}: no way there while connecting: {words}");
    assert!(error.to_string().starts_with(&start), "{error}");
}

/// A probe is opened in one thread and used in another: only the first one's namespace counts.
#[tokio::test]
async fn a_socket_is_driven_from_another_thread() {
    LazyLock::force(&WORLD);
    let mut socket = std::thread::spawn(|| EchoSocket::open().unwrap())
        .join()
        .unwrap();
    let reply = socket.ping(FAR, &PingOptions::default()).await.unwrap();
    assert_eq!(reply.from, FAR);
}
