//! What one GET looks like on the wire, inside and outside of the tunnel.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use podlab::Cluster;
use podlab::capture::{Capture, Captured, Filter, save_pcapng};
use podlab::expect::{ANYBODY, Expectation, Ipip, Packets, Pattern, Tcp, ip, ipip, tcp};
use podlab::packet::TcpFlags;
use podlab_scenarios::seed::{
    self, DEMO_W2, HTTP_PORT, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1, WORKER_2,
};
use rstest::rstest;

const SOON: Duration = Duration::from_secs(5);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 6);
const FIN: TcpFlags = TcpFlags::FIN;
/// How many packets the document shows of one GET.
const SEVEN: usize = 7;
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

/// The document's seven on any tap, each right behind the one before, in what `around` puts around
/// the packets of either side; and then the FINs of both, and nothing else.
fn seven<'a>(
    on_the_tap: Expectation<'a>,
    client: impl Fn(Packets<Tcp>) -> Pattern,
    server: impl Fn(Packets<Tcp>) -> Pattern,
) -> Expectation<'a> {
    let there = || tcp(CLIENT, (SERVER, HTTP_PORT));
    let back = || tcp((SERVER, HTTP_PORT), CLIENT);
    on_the_tap
        .first(client(there().syn().payload_length(0)))
        .next(server(back().syn().ack().payload_length(0)))
        .next(client(there().ack().payload_length(0)))
        .next(client(
            there().psh().ack().payload_begins("GET / HTTP/1.1\r\n"),
        ))
        .next(server(back().ack().payload_length(0)))
        .next(server(
            back().psh().ack().payload_begins("HTTP/1.0 200 OK\r\n"),
        ))
        .next(client(there().ack().payload_length(0)))
        .then(client(there().has(FIN)).or(server(back().has(FIN))))
        .exactly(1, client(there().has(FIN)))
        .exactly(1, server(back().has(FIN)))
        .nothing_else_except(client(there()).or(server(back())))
}

/// Proves that the tunnel device shows the inner packets, nothing around them, in both
/// directions: the document's `tcpdump -i tunl0`.
#[rstest]
#[case::at_the_clients_node(WORKER_1)]
#[case::at_the_servers_node(WORKER_2)]
#[podlab::test]
async fn the_seven_packets_on_the_tunnel(#[case] node: &str) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(node)?;
    let set = cluster.capture().device(&node, TUNNEL).start().await?;
    get(&cluster).await?;
    let seven = seven(set.on(node.tunnel_tap()), Packets::into, Packets::into);
    seven.within(SOON).await?;
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
    let node = cluster.node(node)?;
    let filter = Filter::between(one.address(), two.address());
    let capture = cluster.capture().device(&node, UNDERLAY).filter(filter);
    let set = capture.start().await?;
    get(&cluster).await?;
    // What Calico's device copies outwards (ttl and DF), and what every header must have.
    let outer = |outer: Packets<Ipip>, inner: Packets<Tcp>| {
        let outer = outer.ttl(63).dont_fragment(true).header_checksum(true);
        outer.around(inner.ttl(63).dont_fragment(true))
    };
    let client = |inner| outer(ipip(&one, &two), inner);
    let server = |inner| outer(ipip(&two, &one), inner);
    seven(set.on(node.underlay_tap()), client, server)
        .within(SOON)
        .await?;
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
    let syn = || tcp(CLIENT, SERVER).has(TcpFlags::SYN);
    let answer = || tcp(SERVER, CLIENT).has(TcpFlags::SYN);
    capture
        .on()
        .expect(syn().mss(1400))
        .then(answer().mss(1400))
        .exactly(2, syn().or(answer()))
        .within(SOON)
        .await?;
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
            .take(SEVEN)
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
    assert_eq!(first.len(), SEVEN);
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
    let (nodes, pods) = (cluster.nodes(), cluster.pods());
    let mut capture = cluster.capture().device(cluster.fabric(), "br0");
    for node in &nodes {
        capture = capture
            .device(node, node.underlay())
            .device(cluster.fabric(), node.fabric_port());
    }
    let set = capture.start().await?;

    get(&cluster).await?;
    for from in &pods {
        for to in pods.iter().filter(|to| to.name() != from.name()) {
            from.ping(to).await?;
        }
    }

    let bare = ip(&pods, ANYBODY).or(ip(ANYBODY, &pods));
    let from_a_pod = ipip(&pods, ANYBODY).or(ipip(ANYBODY, &pods));
    set.on(set.taps()).none(bare.or(from_a_pod)).now()?;
    // Six ordered pairs across nodes, two packets each; and the GET.
    let (one, two) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let used = [&one, &two].map(|node| [node.underlay_tap(), node.fabric_tap()]);
    set.on(used.concat())
        .at_least(6 * 2 + SEVEN, ipip(&nodes, &nodes))
        .now()?;
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
    assert!(packets.len() >= 2 * SEVEN);
    assert_eq!(printed.lines().count(), packets.len(), "{printed}");
    for captured in packets {
        let found = printed
            .lines()
            .any(|line| captured.packet.matches_tcpdump(line));
        assert!(found, "tcpdump did not read {captured} but:\n{printed}");
    }
    Ok(())
}
