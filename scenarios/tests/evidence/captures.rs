//! Capture sets: many devices, one file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use podlab::capture::{Filter, Tap, read_pcapng};
use podlab::eventually::eventually;
use podlab::expect::{ANYBODY, arp, icmp};
use podlab::packet::IcmpMessage;
use podlab::probe::icmp::PingOptions;
use podlab_scenarios::seed::{
    self, DEMO, DEMO_W2, HTTP_PORT, TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1, WORKER_2,
};

const SOON: Duration = Duration::from_secs(5);

/// A file of our own where programs that make a sandbox of their own see it, too.
fn folder() -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = crate::shared_folder()?;
    let file = folder.path().join("set.pcapng");
    Ok((folder, file))
}

/// What a reader of capture files prints, line by line. One that was cut by a SIGKILL may end in
/// the middle of a block; whatever else a reader complains of is an error.
fn printed_by(program: &str, arguments: &[&str], file: &Path) -> Result<Vec<String>> {
    let output = Command::new(program)
        .args(arguments)
        .arg("-r")
        .arg(file)
        .output()
        .with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let cut = ["cut short in the middle", "truncated dump file"];
    ensure!(
        output.status.success() || cut.iter().any(|words| said.contains(words)),
        "{program}: {}\n{said}",
        output.status
    );
    let printed = String::from_utf8(output.stdout)?;
    Ok(printed.lines().map(str::to_owned).collect())
}

fn is_echo_request(packet: &podlab::packet::Packet) -> bool {
    let message = packet.icmp().map(|icmp| &icmp.message);
    matches!(message, Some(IcmpMessage::EchoRequest { .. }))
}

/// Without it a test would have to know beforehand which device matters.
#[podlab::test]
async fn every_device_of_a_cluster_is_tapped_and_none_misses_the_first_packet() -> Result<()> {
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let set = cluster.capture().all().start().await?;
    from.ping(&to).await?;
    let mut expected = Vec::new();
    for pod in cluster.pods() {
        expected.extend([pod.own_tap(), pod.host_tap()]);
    }
    for node in cluster.nodes() {
        expected.extend([node.underlay_tap(), node.tunnel_tap(), node.fabric_tap()]);
    }
    expected.push(cluster.fabric().tap("br0"));
    for tap in &expected {
        assert!(set.taps().contains(tap), "{tap} is not in {:?}", set.taps());
    }
    assert!(!set.taps().iter().any(|tap| tap.device() == "lo"));
    // The first thing that the ping needs is the gateway's hardware address.
    let first = set.packets_at(&from.own_tap())?;
    assert!(first[0].packet.arp().is_some(), "{}", first[0]);
    let passed: Vec<String> = set
        .packets()
        .iter()
        .filter(|captured| is_echo_request(&captured.packet))
        .map(|captured| captured.device.to_string())
        .collect();
    let (a, b) = (from.node(), to.node());
    for tap in [from.own_tap(), to.own_tap(), a.fabric_tap(), b.fabric_tap()] {
        assert!(passed.iter().any(|name| name == tap.as_str()), "{tap}");
    }
    assert!(set.losses().is_none(), "{}", set.losses());
    Ok(())
}

/// Without it a reader of the file would have to guess the way that a packet took.
#[podlab::test]
async fn a_path_has_every_hop_in_its_order() -> Result<()> {
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let (a, b) = (cluster.node(WORKER_1)?, cluster.node(WORKER_2)?);
    let set = cluster.capture().path(&from, &to).start().await?;
    let hops = [
        Tap::new(TEST_TOOLS, "eth0"),
        Tap::new(WORKER_1, &from.host_interface()),
        Tap::new(WORKER_1, TUNNEL),
        Tap::new(WORKER_1, UNDERLAY),
        Tap::new("fabric", &a.fabric_port()),
        Tap::new("fabric", &b.fabric_port()),
        Tap::new(WORKER_2, UNDERLAY),
        Tap::new(WORKER_2, TUNNEL),
        Tap::new(WORKER_2, &to.host_interface()),
        Tap::new(DEMO_W2, "eth0"),
    ];
    assert_eq!(set.taps(), hops);
    from.ping(&to).await?;
    set.wait_for(&to.own_tap(), |seen| is_echo_request(&seen.packet), SOON)
        .await?;
    let request = set.packets();
    let request = request.iter().filter(|seen| is_echo_request(&seen.packet));
    let way: Vec<&str> = request.map(|captured| &*captured.device).collect();
    assert_eq!(way, hops.each_ref().map(Tap::as_str));

    let near = cluster.pod(DEMO)?;
    let set = cluster.capture().path(&from, &near).start().await?;
    let hops = [
        from.own_tap(),
        from.host_tap(),
        near.host_tap(),
        near.own_tap(),
    ];
    assert_eq!(set.taps(), hops);
    Ok(())
}

/// Without it the file could not be opened with the tools that everybody has, or would lie about
/// where and when a packet was seen.
#[podlab::test]
async fn the_file_is_what_tshark_and_tcpdump_read() -> Result<()> {
    let cluster = seed::boot().await?;
    let (_folder, file) = folder()?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let set = cluster
        .capture()
        .all()
        .filter(Filter::ipv4())
        .file(&file)
        .start()
        .await?;
    from.http_get(&to, HTTP_PORT, "/").await?;
    from.ping(&to).await?;
    set.stop()?;
    let packets = set.packets();
    let fields = ["-n", "-T", "fields", "-e", "frame.interface_name"];
    let fields = [&fields[..], &["-e", "frame.time_epoch"]].concat();
    let by_tshark = printed_by("tshark", &fields, &file)?;
    let nanoseconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH);
    let mut by_us = Vec::new();
    for captured in &packets {
        let time = nanoseconds(captured.time)?;
        let (seconds, rest) = (time.as_secs(), time.subsec_nanos());
        by_us.push(format!("{}\t{seconds}.{rest:09}", captured.device));
    }
    assert!(by_us.len() > 50, "{by_us:#?}");
    // Two taps may have seen a packet in the same nanosecond.
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let time = |line: &String| line.split('\t').nth(1).map(str::to_owned);
    assert!(by_tshark.is_sorted_by_key(time), "{by_tshark:#?}");
    assert_eq!(sorted(by_tshark), sorted(by_us));
    let by_tcpdump = printed_by("tcpdump", &["-Z", "root", "-nn", "-S"], &file)?;
    assert_eq!(by_tcpdump.len(), packets.len());
    for captured in &packets {
        let mut lines = by_tcpdump.iter();
        assert!(
            lines.any(|line| captured.packet.matches_tcpdump(line)),
            "{captured}"
        );
    }
    Ok(())
}

/// Without it a crash would take with it what led to the crash.
#[podlab::test]
async fn the_file_survives_sigkill() -> Result<()> {
    const AT_LEAST: usize = 500;
    let (_folder, file) = folder()?;
    let mut run = Command::new(env!("CARGO_BIN_EXE_capture-until-killed"))
        .arg(&file)
        .stdin(Stdio::null())
        .spawn()?;
    let echo_requests = || {
        let recordings = read_pcapng(&file).map_err(|error| error.to_string())?;
        let packets = recordings.iter().flat_map(|one| &one.packets);
        let requests = packets.filter(|captured| is_echo_request(&captured.packet));
        match requests.count() {
            count if count < AT_LEAST => Err(format!("{count} echo requests")),
            count => Ok(count),
        }
    };
    let written = eventually("the file grows", Duration::from_secs(20), || async {
        echo_requests()
    })
    .await;
    // In the middle of it.
    run.kill()?;
    run.wait()?;
    let before = written?;
    let after = echo_requests().map_err(anyhow::Error::msg)?;
    ensure!(after >= before, "{after} after the kill, {before} before");
    let only_requests = ["-n", "-Y", "icmp.type == 8"];
    assert_eq!(printed_by("tshark", &only_requests, &file)?.len(), after);
    let by_tcpdump = printed_by("tcpdump", &["-Z", "root", "-nn"], &file)?;
    let by_tcpdump = by_tcpdump
        .iter()
        .filter(|line| line.contains("echo request"));
    assert_eq!(by_tcpdump.count(), after);
    let names = printed_by(
        "tshark",
        &["-T", "fields", "-e", "frame.interface_name"],
        &file,
    )?;
    for name in [
        "test-tools/eth0",
        "k8s-worker-1/tunl0",
        "fabric/k8s-worker-1",
    ] {
        assert!(names.iter().any(|line| line == name), "{name}");
    }
    Ok(())
}

/// Without it a capture could fill the memory or the disk, or hide that it has forgotten packets.
#[podlab::test]
async fn memory_and_file_are_bounded_and_what_went_is_told() -> Result<()> {
    const FILE: u64 = 100_000;
    let cluster = seed::boot().await?;
    let (_folder, file) = folder()?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO)?);
    let set = cluster
        .capture()
        .device(&from, "eth0")
        .filter(Filter::protocol(1))
        .memory(20_000)
        .file_limit(FILE)
        .file(&file)
        .start()
        .await?;
    const PINGS: u64 = 600;
    for _ in 0..PINGS {
        from.ping(&to).await?;
    }
    set.stop()?;
    let kept = set.packets();
    let losses = set.losses_at(&from.own_tap())?;
    assert!(kept.len() > 10, "{}", kept.len());
    assert_eq!(losses.dropped, 0);
    assert_eq!(losses.forgotten + kept.len() as u64, 2 * PINGS);
    assert!(std::fs::metadata(&file)?.len() <= FILE);
    let in_file = &read_pcapng(&file)?[0].packets;
    let newest = &in_file[in_file.len() - kept.len()..];
    assert_eq!(newest, kept, "the newest are in both");
    assert!(in_file.len() > kept.len() && in_file.len() < 2 * PINGS as usize);
    // Neither what is in memory nor the file proves any absence, and both say how much is missing.
    let recording = &set.recordings()[0];
    assert_eq!(recording.forgotten, losses.forgotten);
    recording.on().none(arp()).now().expect_err("who knows");
    let from_file = &read_pcapng(&file)?[0];
    let missing = 2 * PINGS - from_file.packets.len() as u64;
    assert_eq!((from_file.forgotten, from_file.dropped), (missing, 0));
    let error = from_file.on().none(arp()).now().expect_err("who knows");
    let words = format!("packets are missing ({missing} packets forgotten)");
    assert!(error.to_string().contains(&words), "{error}");
    Ok(())
}

/// A tap whose device went with a crash sees nothing of the device that comes back under its name:
/// its silence must not pass for that of the network.
#[podlab::test]
async fn a_tap_whose_device_was_removed_proves_no_absence() -> Result<()> {
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let n2 = cluster.node(WORKER_2)?;
    let (_folder, file) = folder()?;
    let set = cluster
        .capture()
        .path(&from, &to)
        .file(&file)
        .start()
        .await?;
    let (tap, other) = (n2.underlay_tap(), from.own_tap());
    let nothing = || set.on(&tap).none(icmp(ANYBODY, ANYBODY));
    nothing().now()?;
    n2.crash().await?.heal().await?;
    eventually("the pod is back", SOON, || from.ping(&to)).await?;
    assert!(set.losses_at(&tap)?.gone && !set.losses_at(&other)?.gone);
    let error = nothing().now().expect_err("the ping passed another device");
    assert!(
        error.to_string().contains("its device was removed"),
        "{error}"
    );
    let none = set.on(&tap).exactly(0, icmp(ANYBODY, ANYBODY)).now();
    none.expect_err("as little");
    // A device that was down for a while is whole.
    set.on(&other).none(arp().target(&to)).now()?;
    set.stop()?;
    let recordings = read_pcapng(&file)?;
    let gone = |tap: &Tap| {
        recordings
            .iter()
            .any(|one| one.device == tap.as_str() && one.gone)
    };
    assert!(gone(&tap) && !gone(&other));
    Ok(())
}

/// Packets that the kernel threw away because nobody read them fast enough are missing in a set as
/// they are in a single capture, in memory and in the file.
#[podlab::test]
async fn packets_that_the_kernel_threw_away_are_counted_and_prove_no_absence() -> Result<()> {
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO)?);
    let (_folder, file) = folder()?;
    let set = cluster.capture().device(&from, "eth0").kernel_memory(4096);
    let set = set.file(&file).start().await?;
    let tap = from.own_tap();
    let flood = || async {
        // Fragments come in bursts that no reader can be in between of.
        let options = PingOptions {
            payload: 60_000,
            ..PingOptions::default()
        };
        from.ping_with(&to, &options)
            .await
            .map_err(|error| error.to_string())?;
        match set.losses().dropped {
            0 => Err("nothing was lost".to_owned()),
            _ => Ok(()),
        }
    };
    eventually("packets are lost", SOON, flood).await?;
    set.stop()?;
    let losses = set.losses_at(&tap)?;
    let error = set.on(&tap).none(arp()).now().expect_err("who knows");
    let words = format!("{} packets lost", losses.dropped);
    assert!(error.to_string().contains(&words), "{error}");
    let from_file = &read_pcapng(&file)?[0];
    assert_eq!(
        (from_file.dropped, from_file.forgotten),
        (losses.dropped, 0)
    );
    from_file.on().none(arp()).now().expect_err("who knows");
    Ok(())
}

/// Without it a device whose name was mistyped would look like one that nothing passed.
#[podlab::test]
async fn a_device_that_there_is_not_is_an_error_that_names_the_others() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let started = cluster.capture().device(&node, "ens193").start().await;
    let error = started.expect_err("there is none").to_string();
    assert!(
        error.contains("ens193") && error.contains("ens192"),
        "{error}"
    );
    let error = cluster.capture().start().await.expect_err("nothing asked");
    assert!(error.to_string().contains("hint:"), "{error}");
    let set = cluster.capture().node(&node).start().await?;
    let error = set.packets_at(&Tap::new(WORKER_2, UNDERLAY));
    let error = error.expect_err("another node").to_string();
    assert!(error.contains("hint: it has k8s-worker-1/"), "{error}");
    Ok(())
}

/// Without it whoever reads the evidence of a failed test would not see what the test itself had
/// captured; and a test that passes would leave files behind.
#[podlab::test]
async fn evidence_has_a_copy_of_a_file_that_goes_with_its_set() -> Result<()> {
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let set = cluster.capture().path(&from, &to).start().await?;
    let file = set.file().context("the default file")?.to_owned();
    let name = file
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .into_owned();
    let test = "captures.evidence_has_a_copy_of_a_file_that_goes_with_its_set-";
    assert!(name.starts_with(test), "{name}");
    from.ping(&to).await?;
    let count = set.packets().len();
    let evidence = cluster.evidence("evidence.captures.copy").await?;
    // Reads what it will have written by then.
    drop(set);
    let copy = read_pcapng(&evidence.folder.join("captures").join(&name))?;
    let packets = copy.iter().map(|recording| recording.packets.len());
    let copied = packets.sum::<usize>();
    assert!(count > 0 && copied >= count, "{copied} of {count}");
    std::fs::remove_dir_all(&evidence.folder)?;
    // A set that a test drops ends with the current poll: until then it may be evidence.
    eventually("the file is gone", SOON, || async {
        match file.exists() {
            true => Err("it is there"),
            false => Ok(()),
        }
    })
    .await?;
    Ok(())
}
