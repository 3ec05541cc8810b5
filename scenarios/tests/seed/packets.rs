//! What one GET looks like on the wire, inside and outside of the tunnel.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use podlab::Cluster;
use podlab::capture::{Capture, Captured, Filter, save_pcapng};
use podlab::packet::{TcpFlags, TcpOption};
use podlab_scenarios::seed::{
    self, DEMO_W2, HTTP_PORT, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1, WORKER_2,
};
use rstest::rstest;

const SOON: Duration = Duration::from_secs(5);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 6);
/// The document's seven: who sends, which flags, and what the payload begins with.
const SEVEN: [(Ipv4Addr, &[TcpFlags], &str); 7] = [
    (CLIENT, &[TcpFlags::SYN], ""),
    (SERVER, &[TcpFlags::SYN, TcpFlags::ACK], ""),
    (CLIENT, &[TcpFlags::ACK], ""),
    (
        CLIENT,
        &[TcpFlags::PSH, TcpFlags::ACK],
        "GET / HTTP/1.1\r\n",
    ),
    (SERVER, &[TcpFlags::ACK], ""),
    (
        SERVER,
        &[TcpFlags::PSH, TcpFlags::ACK],
        "HTTP/1.0 200 OK\r\n",
    ),
    (CLIENT, &[TcpFlags::ACK], ""),
];

async fn get(cluster: &Cluster) -> Result<()> {
    let reply = cluster
        .pod(TEST_TOOLS)?
        .http_get(SERVER, HTTP_PORT, "/")
        .await?;
    assert_eq!(reply.status, 200);
    Ok(())
}

/// The TCP packets of a whole connection: until both sides have closed it.
async fn connection(capture: &Capture) -> Result<Vec<Captured>> {
    let closed = |packets: &[Captured]| {
        let fin = |source| {
            packets
                .iter()
                .position(|p| sends(p, source) && has(p, TcpFlags::FIN))
        };
        fin(CLIENT).and(fin(SERVER)).map(|_| packets.to_vec())
    };
    Ok(capture.wait_until(closed, SOON).await?)
}

fn sends(captured: &Captured, source: Ipv4Addr) -> bool {
    captured
        .packet
        .inner_ipv4()
        .is_some_and(|ip| ip.source == source)
}

fn has(captured: &Captured, flag: TcpFlags) -> bool {
    captured
        .packet
        .tcp()
        .is_some_and(|tcp| tcp.flags.contains(flag))
}

/// Fails unless the first seven are the document's, and every FIN comes after them.
fn assert_seven(packets: &[Captured]) {
    let text: Vec<String> = packets.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    for (captured, (source, flags, payload)) in packets.iter().zip(SEVEN) {
        let tcp = captured.packet.tcp().expect("a TCP packet");
        let flags = flags.iter().fold(0, |bits, flag| bits | flag.bits());
        assert!(
            sends(captured, source),
            "{captured} is not from {source}, in:\n{text}"
        );
        assert_eq!(tcp.flags.bits(), flags, "{captured}, in:\n{text}");
        let begin = captured.packet.payload();
        assert!(
            begin.starts_with(payload.as_bytes()),
            "{captured} is not {payload:?}"
        );
        assert_eq!(
            payload.is_empty(),
            begin.is_empty(),
            "{captured} carries {begin:?}"
        );
    }
    assert!(
        packets.len() > SEVEN.len(),
        "the connection was not closed:\n{text}"
    );
    assert!(
        !packets[..SEVEN.len()].iter().any(|p| has(p, TcpFlags::FIN)),
        "{text}"
    );
}

/// Proves that the tunnel device shows the inner packets, nothing around them, in both
/// directions: the document's `tcpdump -i tunl0`.
#[rstest]
#[case::at_the_clients_node(WORKER_1)]
#[case::at_the_servers_node(WORKER_2)]
#[podlab::test]
async fn the_seven_packets_on_the_tunnel(#[case] node: &str) -> Result<()> {
    let cluster = seed::boot().await?;
    let capture = cluster.node(node)?.capture(TUNNEL, &Filter::everything())?;
    get(&cluster).await?;
    let packets = connection(&capture).await?;
    assert_seven(&packets);
    for captured in &packets {
        assert_eq!(
            captured.packet.ipip_depth(),
            0,
            "{captured} is encapsulated"
        );
        assert!(
            captured.packet.is_between(CLIENT, SERVER),
            "{captured} is something else"
        );
    }
    Ok(())
}

/// Proves that the underlay carries the same seven packets inside protocol 4 between the two
/// nodes: the document's `tcpdump -i ens192`.
#[rstest]
#[case::at_the_clients_node(WORKER_1)]
#[case::at_the_servers_node(WORKER_2)]
#[podlab::test]
async fn the_seven_packets_on_the_underlay(#[case] node: &str) -> Result<()> {
    let cluster = seed::boot().await?;
    let (one, two) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let filter = Filter::between(one.address(), two.address());
    let capture = cluster.node(node)?.capture(UNDERLAY, &filter)?;
    get(&cluster).await?;
    let packets = connection(&capture).await?;
    assert_seven(&packets);
    for captured in &packets {
        let headers: Vec<_> = captured.packet.ipv4_headers().collect();
        let [outer, inner] = headers[..] else {
            panic!("{captured} has not two IPv4 headers")
        };
        let from_client = inner.source == CLIENT;
        let (from, to) = if from_client {
            (&one, &two)
        } else {
            (&two, &one)
        };
        assert_eq!(
            (outer.source, outer.destination),
            (from.address(), to.address())
        );
        assert_eq!(outer.protocol, 4);
        // What Calico's device copies outwards (ttl inherit), and what every header must have.
        assert_eq!(
            (outer.ttl, outer.dont_fragment),
            (inner.ttl, inner.dont_fragment)
        );
        assert!(outer.checksum_correct, "{captured}");
    }
    Ok(())
}

/// Proves that the pods were told the MTU of the tunnel: 1440 bytes less 40 of headers.
#[podlab::test]
async fn the_syn_carries_mss_1400() -> Result<()> {
    let cluster = seed::boot().await?;
    let capture = cluster
        .node(WORKER_1)?
        .capture(TUNNEL, &Filter::everything())?;
    get(&cluster).await?;
    let packets = connection(&capture).await?;
    let syns: Vec<_> = packets.iter().filter(|p| has(p, TcpFlags::SYN)).collect();
    assert_eq!(syns.len(), 2);
    for captured in syns {
        let options = &captured.packet.tcp().expect("a TCP packet").options;
        assert!(options.contains(&TcpOption::Mss(1400)), "{captured}");
    }
    Ok(())
}

/// Proves that the tunnel changes nothing but what forwarding changes (ttl and the header's
/// checksum): the inner packets are byte-identical at every device from tunnel to tunnel.
#[podlab::test]
async fn the_inner_packets_are_byte_identical_along_the_path() -> Result<()> {
    let cluster = seed::boot().await?;
    let (one, two) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let pair = Filter::between(CLIENT, SERVER);
    let filter = pair.clone().or(Filter::inner(pair));
    let fabric = cluster.fabric();
    let captures = [
        one.capture(TUNNEL, &filter)?,
        one.capture(UNDERLAY, &filter)?,
        fabric.capture(one.fabric_port(), &filter)?,
        fabric.capture(two.fabric_port(), &filter)?,
        two.capture(UNDERLAY, &filter)?,
        two.capture(TUNNEL, &filter)?,
        cluster.pod(DEMO_W2)?.capture("eth0", &filter)?,
    ];
    get(&cluster).await?;
    let mut seen = Vec::new();
    for capture in &captures {
        let packets = connection(capture).await?;
        let bytes: Vec<_> = packets
            .iter()
            .take(SEVEN.len())
            .map(Captured::canonical_inner)
            .collect();
        assert!(
            bytes.iter().all(Option::is_some),
            "{} saw a packet without IPv4",
            capture.name()
        );
        seen.push((capture.name(), bytes));
    }
    let (_, first) = &seen[0];
    assert_eq!(first.len(), SEVEN.len());
    for (name, bytes) in &seen {
        assert_eq!(bytes, first, "{name} differs from {}", seen[0].0);
    }
    Ok(())
}

/// Proves that no packet between pods of different nodes is on any underlay device without its
/// outer header. The same taps see the encapsulated ones, so they are not blind.
#[podlab::test]
async fn nothing_unencapsulated_on_any_underlay_device() -> Result<()> {
    let cluster = seed::boot().await?;
    let pods: Vec<Ipv4Addr> = cluster.pods().iter().map(podlab::Pod::address).collect();
    let mut taps = Vec::new();
    for node in cluster.nodes() {
        taps.push(node.capture(node.underlay(), &Filter::ipv4())?);
        taps.push(
            cluster
                .fabric()
                .capture(node.fabric_port(), &Filter::ipv4())?,
        );
    }
    taps.push(cluster.fabric().capture("br0", &Filter::ipv4())?);

    get(&cluster).await?;
    for from in cluster.pods() {
        for to in cluster.pods().iter().filter(|to| to.name() != from.name()) {
            from.ping(to).await?;
        }
    }

    let is_pod = |address: Ipv4Addr| pods.contains(&address);
    let mut encapsulated = 0;
    for tap in taps {
        for captured in tap.stop().await?.packets {
            let Some(outer) = captured.packet.outer_ipv4() else {
                continue;
            };
            assert!(
                !is_pod(outer.source) && !is_pod(outer.destination),
                "leaked: {captured}"
            );
            encapsulated += captured.packet.ipip_depth();
        }
    }
    // Six ordered pairs across nodes, two packets each, seen by four devices; and the GET.
    assert!(
        encapsulated >= 6 * 2 * 4 + 7 * 4,
        "the taps saw {encapsulated} packets only"
    );
    Ok(())
}

/// Proves that a tap which is armed before the first packet misses none: the ARP request that a
/// pod's very first ping needs is in it.
#[podlab::test]
async fn a_capture_sees_the_very_first_packet() -> Result<()> {
    let cluster = seed::boot().await?;
    let pod = cluster.pod(TEST_TOOLS)?;
    let capture = pod.capture("eth0", &Filter::everything())?;
    pod.ping(SERVER).await?;
    let packets = capture.stop().await?.packets;
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let first = packets.first().expect("the capture saw packets");
    assert_eq!(
        first.packet.arp().map(|arp| arp.target),
        Some(gateway),
        "{first}"
    );
    Ok(())
}

/// Proves that captures can be kept: a pcapng of both devices is read by the real tcpdump.
#[podlab::test]
async fn a_capture_file_is_read_by_tcpdump() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let filter = Filter::ipv4();
    let captures = [
        node.capture(TUNNEL, &filter)?,
        node.capture(UNDERLAY, &filter)?,
    ];
    get(&cluster).await?;
    let mut recordings = Vec::new();
    for capture in captures {
        connection(&capture).await?;
        recordings.push(capture.stop().await?);
    }
    // A tcpdump outside of every machine reads it: the file is the sandbox's.
    let folder = tempfile::tempdir_in("/run")?;
    let file = folder.path().join("get.pcapng");
    save_pcapng(&file, &recordings)?;
    let output = Command::new("tcpdump")
        .args(["-nn", "-S", "-Z", "root", "-r"])
        .arg(&file)
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    let packets: Vec<_> = recordings
        .iter()
        .flat_map(|recording| &recording.packets)
        .collect();
    assert!(packets.len() >= 2 * SEVEN.len());
    assert_eq!(printed.lines().count(), packets.len(), "{printed}");
    for captured in packets {
        let found = printed
            .lines()
            .any(|line| captured.packet.matches_tcpdump(line));
        assert!(found, "tcpdump did not read {captured} but:\n{printed}");
    }
    Ok(())
}
