//! Our decoding against Wireshark's, on what really was on the wire.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use podlab::Cluster;
use podlab::capture::{Captured, Direction, Recording, read_pcapng, save_pcapng};
use podlab::expect::{ANYBODY, icmp, ip, ipip, tcp, udp};
use podlab::packet::{ChecksumState, LinkType, Packet};
use podlab::probe::icmp::PingOptions;
use podlab_scenarios::seed::{self, DEMO, DEMO_W2, HTTP_PORT, TEST_TOOLS, WORKER_1};
use podlab_scenarios::tshark;
use rstest::rstest;

const SOON: Duration = Duration::from_secs(5);

/// Pings, HTTP, a connection that is refused, UDP to a closed port, fragments, and what routers
/// answer to packets that are too long or live too shortly.
async fn traffic(cluster: &Cluster) -> Result<()> {
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let near = cluster.pod(DEMO)?;
    a.set_link_mtu("eth0", 9000).await?;
    let node = cluster.node(WORKER_1)?;
    node.set_link_mtu(&a.host_interface(), 9000).await?;
    for to in [&b, &near] {
        a.ping(to).await?;
        a.http_get(to, HTTP_PORT, "/").await?;
        a.http_get(to, 81, "/").await.expect_err("nobody listens");
    }
    let ping = |options: PingOptions| {
        let (a, b) = (&a, &b);
        async move { a.ping_with(b, &options).await }
    };
    let plain = PingOptions::default;
    ping(PingOptions {
        tos: 0xb9,
        ..plain()
    })
    .await?;
    ping(PingOptions {
        payload: 3000,
        ..plain()
    })
    .await?;
    for refused in [
        PingOptions {
            payload: 3000,
            dont_fragment: true,
            ..plain()
        },
        PingOptions { ttl: 1, ..plain() },
        PingOptions { ttl: 2, ..plain() },
    ] {
        ping(refused).await.expect_err("a router answers");
    }
    // The real ping writes the time into its packets, which tshark knows.
    let real = format!("ping -c 1 -W 5 {}", b.address());
    a.exec(real.as_str()).await?.success()?;
    let datagram = format!(
        "exec 3<>/dev/udp/{}/33434; printf podlab >&3; read -t 1 -u 3",
        b.address()
    );
    a.exec(podlab::process::Program::new("bash").args(["-c", &datagram]))
        .await?;
    Ok(())
}

/// Without it nobody could trust what an expectation says of a header: everything that we read,
/// outside and inside of the tunnel, on every kind of device, is what tshark reads.
#[rstest]
#[podlab::test]
async fn every_field_is_what_tshark_says(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let cluster = seed::boot_encapsulated(backend).await?;
    let folder = tempfile::tempdir_in("/run")?;
    let file = folder.path().join("all.pcapng");
    let set = cluster.capture().all().file(&file).start().await?;
    traffic(&cluster).await?;

    // It was there: otherwise there would be nothing to agree about.
    let (a, b) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let node = cluster.node(WORKER_1)?;
    set.on(a.own_tap())
        .expect(tcp(&a, &b).syn())
        .expect(tcp(&b, &a).rst().ack())
        .expect(udp(&a, (&b, 33434)).payload("podlab"))
        .expect(icmp(&b, &a).unreachable(3))
        .expect(icmp(ANYBODY, &a).fragmentation_needed(1440))
        .at_least(2, icmp(ANYBODY, &a).time_exceeded())
        .expect(icmp(&a, &b).tos(0xb9))
        .within(SOON)
        .await?;
    set.on(node.underlay_tap())
        .expect(ipip(ANYBODY, ANYBODY).around(ip(&a, &b).fragment_offset(1416)))
        .within(SOON)
        .await?;
    set.stop()?;
    let agreement = tshark::compare(&file)?;
    ensure!(agreement.packets == set.packets().len(), "{agreement}");
    ensure!(agreement.packets > 200, "{agreement}");
    ensure!(agreement.fields > 20 * agreement.packets, "{agreement}");
    Ok(())
}

/// Without it one run in some would end with a disagreement that is none: this payload, which a
/// probe has made at random, has 64 bits in it that could be a time, and so is a message of
/// HiPerConTracer to tshark.
#[podlab::test]
fn what_an_echo_carries_is_data() -> Result<()> {
    const HEADERS: &str = "000000000000 000000000000 0800 \
        45000034 00010000 40011e8d ac140105 ac140205 \
        0800c29c 03bb0001";
    const PAYLOAD: &str = "4cf852ce 2e3a024b 000c55f9 7bf82b19 ae28bc30 05452e83";
    let digits: Vec<u8> = [HEADERS, PAYLOAD]
        .iter()
        .flat_map(|text| text.bytes())
        .filter(u8::is_ascii_hexdigit)
        .collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect::<Result<_>>()?;
    let captured = Captured {
        time: SystemTime::now(),
        direction: Direction::Incoming,
        device: "n1/eth0".into(),
        original_length: bytes.len(),
        checksum: ChecksumState::Complete,
        packet: Packet::decode(LinkType::Ethernet, bytes),
    };
    let recording = Recording {
        device: "n1/eth0".to_owned(),
        link_type: LinkType::Ethernet,
        packets: vec![captured],
        dropped: 0,
        forgotten: 0,
        gone: false,
    };
    let folder = tempfile::tempdir_in("/run")?;
    let file = folder.path().join("echo.pcapng");
    save_pcapng(&file, &[recording])?;
    assert_eq!(tshark::compare(&file)?.packets, 1);
    Ok(())
}

/// The number of the last header's last byte, where options of IPv4 are not compared.
fn length_of_headers(captured: &Captured) -> usize {
    let layers = captured.packet.layers();
    layers.last().map_or(0, |layer| layer.range.end)
}

/// Without it the comparison might agree with whatever it is shown: our reading of packets of
/// which one byte was changed is never what tshark says of the packets as they were.
#[podlab::test]
async fn a_single_byte_that_we_read_otherwise_is_found_out() -> Result<()> {
    let cluster = seed::boot().await?;
    let folder = tempfile::tempdir_in("/run")?;
    let file = folder.path().join("one.pcapng");
    let node = cluster.node(WORKER_1)?;
    let underlay = cluster.capture().device(&node, node.underlay());
    let set = underlay.file(&file).start().await?;
    traffic(&cluster).await?;
    set.stop()?;
    let said = tshark::Said::of(&file)?;
    let whole = read_pcapng(&file)?;
    said.compare(&whole)?;

    let mut changes = 0;
    let packets = &whole[0].packets;
    let kinds = |captured: &Captured| {
        let packet = &captured.packet;
        let transport = packet.transport().map(|transport| format!("{transport:?}"));
        let kind = transport.map(|text| text.chars().take(24).collect::<String>());
        (packet.ipip_depth(), kind)
    };
    let mut seen = BTreeSet::new();
    for (number, captured) in packets.iter().enumerate() {
        if !seen.insert(kinds(captured)) {
            continue;
        }
        for at in 0..length_of_headers(captured) {
            let mut bytes = captured.packet.bytes().to_vec();
            bytes[at] ^= 1;
            let length = captured.original_length;
            let changed = Packet::decode_cut(LinkType::Ethernet, bytes, length);
            if changed.layers() == captured.packet.layers() {
                // Bits that no field of ours has, such as those that are reserved.
                continue;
            }
            changes += 1;
            let mut recordings = whole.clone();
            recordings[0].packets[number].packet = changed;
            let agreement = said.compare(&recordings);
            ensure!(agreement.is_err(), "byte {at} was changed in {captured}");
        }
    }
    ensure!(seen.len() >= 5 && changes > 200, "{changes} in {seen:?}");
    Ok(())
}
