//! The same facts from programs that are not ours: tcpdump, ping and curl.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use podlab::capture::Filter;
use podlab::packet::TcpFlags;
use podlab::process::{Process, Program};
use podlab::{Cluster, Machine};
use podlab_scenarios::seed::{
    self, CLIENT, DEMO, DEMO_W2, HTTP_PORT, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1, WORKER_2,
};
use rstest::rstest;

const SOON: Duration = Duration::from_secs(5);
/// What the document's command captures, both directions of it; and protocol 4 only, because
/// tcpdump 4.99 has stopped to print the `(ipip-proto-4)` of the document.
const BETWEEN_WORKERS: &str = "ip proto 4 and host 10.12.22.3 and not port 6443";

/// Starts tcpdump on a device of a machine; it captures when this returns.
async fn tcpdump(
    machine: &Machine,
    device: &str,
    options: &[&str],
    filter: &str,
) -> Result<Process> {
    let program = Program::new("tcpdump")
        .args(["-i", device, "-l", "--immediate-mode"])
        // Its ring has room for a handful of packets only if each may have 256 KiB.
        .args(["-s", "2048"])
        // In a user namespace there is nobody to become.
        .args(["-Z", "root"])
        .args(options)
        .args(filter.split_whitespace());
    let mut tcpdump = machine.spawn(program)?;
    tcpdump
        .wait_for_error_line(|line| line.starts_with("listening on"), SOON)
        .await?;
    Ok(tcpdump)
}

async fn get(cluster: &Cluster) -> Result<()> {
    let target = cluster.pod(DEMO_W2)?;
    cluster
        .pod(TEST_TOOLS)?
        .http_get(&target, HTTP_PORT, "/")
        .await?;
    Ok(())
}

/// Proves the document's second capture: tcpdump names the nodes from the node's own
/// `/etc/hosts` and shows the inner packet behind them.
#[podlab::test]
async fn tcpdump_on_the_underlay_names_the_nodes() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let mut tcpdump = tcpdump(&node, UNDERLAY, &[], BETWEEN_WORKERS).await?;
    get(&cluster).await?;
    for (begin, end) in [
        (
            " IP k8s-worker-1 > k8s-worker-2: IP 192.168.1.12.",
            "Flags [S],",
        ),
        (
            " IP k8s-worker-2 > k8s-worker-1: IP 192.168.2.6.",
            "Flags [S.],",
        ),
    ] {
        let syn = tcpdump
            .wait_for_line(|l| l.contains(begin) && l.contains(end), SOON)
            .await?;
        assert!(syn.contains("mss 1400,"), "{syn}");
        let end = syn.strip_suffix(" (ipip-proto-4)").unwrap_or(&syn);
        assert!(end.ends_with("length 0"), "{syn}");
    }
    tcpdump.stop(Signal::SIGINT).await?.success()?;
    Ok(())
}

/// Proves the document's first capture: on the tunnel, tcpdump shows nothing but the inner
/// packets, in both directions.
#[podlab::test]
async fn tcpdump_on_the_tunnel_shows_inner_packets() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let mut tcpdump = tcpdump(&node, TUNNEL, &["-nn"], "").await?;
    get(&cluster).await?;
    let there = |line: &str| line.contains(" IP 192.168.1.12.") && line.contains("Flags [S],");
    let back = |line: &str| line.contains(" IP 192.168.2.6.8080 >") && line.contains("Flags [S.],");
    tcpdump.wait_for_line(there, SOON).await?;
    tcpdump.wait_for_line(back, SOON).await?;
    let printed = tcpdump.stop(Signal::SIGINT).await?.success()?.stdout;
    assert!(!printed.contains("ipip"), "{printed}");
    Ok(())
}

/// Proves that our decoder can be believed: every packet that it saw is one that tcpdump
/// printed, field by field, and tcpdump printed no other.
#[rstest]
#[case::on_the_tunnel(TUNNEL, "ip")]
#[case::on_the_underlay(UNDERLAY, BETWEEN_WORKERS)]
#[podlab::test]
async fn every_packet_we_decode_is_one_that_tcpdump_printed(
    #[case] device: &str,
    #[case] filter: &str,
) -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let capture = node.capture(device, &Filter::ipv4())?;
    let mut tcpdump = tcpdump(&node, device, &["-nn", "-S"], filter).await?;
    get(&cluster).await?;
    cluster
        .pod(TEST_TOOLS)?
        .ping(&cluster.pod(DEMO_W2)?)
        .await?;
    // The client closes after its answer: the connection has ended with the server's FIN.
    let is_fin = |flags: TcpFlags| flags.contains(TcpFlags::FIN);
    let server = cluster.pod(DEMO_W2)?.address();
    capture
        .wait_for(
            |captured| {
                captured
                    .packet
                    .inner_ipv4()
                    .is_some_and(|ip| ip.source == server)
                    && captured.packet.tcp().is_some_and(|tcp| is_fin(tcp.flags))
            },
            SOON,
        )
        .await?;
    // The last of them is the client's answer to that FIN; asking for it ends the exchange.
    for captured in capture.packets() {
        tcpdump
            .wait_for_line(|line| captured.packet.matches_tcpdump(line), SOON)
            .await
            .with_context(|| format!("we decoded {captured}"))?;
    }
    let printed = tcpdump.stop(Signal::SIGINT).await?.success()?.stdout;
    let packets = capture.stop().await?.packets;
    assert!(packets.len() >= 7 + 2, "{printed}");
    // It ends the line that an interrupt from the keyboard would leave open.
    for line in printed.lines().filter(|line| !line.is_empty()) {
        let known = packets
            .iter()
            .any(|captured| captured.packet.matches_tcpdump(line));
        assert!(
            known,
            "tcpdump printed what we did not see: {line}, in:\n{printed}"
        );
    }
    Ok(())
}

/// Proves that the real ping reads what our probe reads, across nodes and on one node.
#[rstest]
#[case::across_nodes(DEMO_W2, 62)]
#[case::on_one_node(DEMO, 63)]
#[podlab::test]
async fn ping_agrees_with_the_probe(#[case] to: &str, #[case] ttl: u8) -> Result<()> {
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(to)?);
    let ours = from.ping(&to).await?;
    assert_eq!(ours.ttl, ttl);
    let line = format!("ping -n -c 3 -i 0.2 -W 5 {}", to.address());
    let theirs = from.exec(line.as_str()).await?.success()?.stdout;
    // Up to the time, which is another one each time.
    let (facts, _) = ours
        .to_string()
        .split_once(" time=")
        .map(own)
        .context("our own line")?;
    assert!(
        theirs.lines().any(|line| line.starts_with(&facts)),
        "no line is {facts}:\n{theirs}"
    );
    assert!(
        theirs.contains("3 packets transmitted, 3 received, 0% packet loss"),
        "{theirs}"
    );
    Ok(())
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

/// Proves that the real curl, run in the curl container, gets the page that our probe gets.
#[rstest]
#[case::across_nodes(DEMO, DEMO_W2)]
#[case::and_back(DEMO_W2, DEMO)]
#[podlab::test]
async fn curl_agrees_with_the_probe(#[case] from: &str, #[case] to: &str) -> Result<()> {
    let cluster = seed::boot().await?;
    let (client, to) = (cluster.pod(from)?.container(CLIENT)?, cluster.pod(to)?);
    let ours = client.http_get(&to, HTTP_PORT, "/").await?;
    let url = format!("http://{}:{HTTP_PORT}/", to.address());
    let curl = Program::new("curl")
        .args([
            "-sS",
            "-i",
            "--noproxy",
            "*",
            "--max-time",
            "5",
            "-w",
            "\n%{local_ip}",
        ])
        .arg(&url);
    let theirs = client.exec(curl).await?.success()?.stdout;
    let (head, rest) = theirs
        .split_once("\r\n\r\n")
        .context("an empty line behind the head")?;
    let (body, source) = rest.rsplit_once('\n').context("the line of -w")?;
    assert_eq!(
        head.lines().next(),
        Some(format!("{:?} {}", ours.version, ours.status).as_str())
    );
    assert_eq!(head.lines().next(), Some("HTTP/1.0 200 OK"));
    assert_eq!(body, ours.text());
    assert_eq!(body, format!("<p>Hi from {}</p>", to.name()));
    assert_eq!(source, ours.local.ip().to_string());
    Ok(())
}

/// Proves that the names are the node's own: another node, asked for the address of the first,
/// answers with its name.
#[podlab::test]
async fn every_node_resolves_every_other() -> Result<()> {
    let cluster = seed::boot().await?;
    let ping = cluster
        .node(WORKER_2)?
        .exec("ping -c 1 -W 5 k8s-worker-1")
        .await?
        .success()?;
    assert!(
        ping.stdout.starts_with("PING k8s-worker-1 (10.12.22.2) "),
        "{}",
        ping.stdout
    );
    Ok(())
}
