//! What a failed test leaves behind. The tests that fail are those of the program `failing`, which
//! is started here as a user starts a suite.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use podlab::capture::read_pcapng;
use podlab::packet::Packet;
use serde_json::Value;
use tokio::process::Command;

use crate::failing::{Failing, diagnosis};

const N2: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

/// A user who reads the end of a red run must see what failed, in the words of the test, and where
/// and why the packet was lost, and the page to open.
#[podlab::test]
async fn the_message_stays_and_names_hop_and_page() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_by_an_error", 1).await?;
    // 300 ms, or what a slow machine makes of them.
    let (_, waited) = attempt
        .text
        .split_once("icmp_seq=1 within ")
        .context("no ping")?;
    let (waited, _) = waited.split_once('\n').context("no end")?;
    let expected = format!(
        "Error: the error of the test\n\nCaused by:\n    \
         0: on a: ping 192.168.2.2: no answer to icmp_seq=1 within {waited}\n    \
         1: ping 192.168.2.2: no answer to icmp_seq=1 within {waited}\n\n\
         diagnosis: a → b (192.168.2.2): {}\n\
         evidence:  {}\n",
        diagnosis(&attempt)?,
        attempt.folder.join("report.html").display(),
    );
    ensure!(
        attempt.text.contains(&expected),
        "{expected}\nis not in\n{}",
        attempt.text
    );
    let lost = diagnosis(&attempt)?;
    // The agent's route is gone, so the node sends by its default route.
    ensure!(
        lost.contains("between n1/cali") && lost.contains("and n1/tunl0"),
        "{lost}"
    );
    ensure!(lost.contains("0.0.0.0/0 via 10.0.0.1 dev eth0"), "{lost}");
    Ok(())
}

/// Whoever looks for the cause must find it in the bundle alone: the run cannot be repeated.
#[podlab::test]
async fn everything_about_every_machine_is_in_the_bundle() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_by_an_error", 1).await?;
    let bundle = &attempt.bundle;
    ensure!(bundle["format"] == "podlab-bundle" && bundle["version"] == 1);
    ensure!(bundle["test"] == "failing::fails_by_an_error");
    ensure!(
        bundle["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("Error: the error"))
    );
    for name in ["fabric", "n1", "n2", "n3", "a", "b", "c"] {
        let machine = attempt.machine(name)?;
        for item in [
            "links",
            "addresses",
            "routes",
            "rules",
            "neighbours",
            "nft",
            "qdiscs",
            "filters",
            "programs",
            "sysctls",
            "counters",
            "sockets",
            "processes",
        ] {
            ensure!(
                !machine[item]["value"].is_null(),
                "{name}: {item}: {}",
                machine[item]
            );
        }
        ensure!(
            attempt.report.contains(&format!("{name}<span")),
            "{name} is not in the report"
        );
    }
    let n1 = attempt.machine("n1")?;
    ensure!(n1["agent"]["running"] == false, "{}", n1["agent"]);
    // What its agent would put right again is told by its own comparison.
    let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
    ensure!(
        text(&n1["agent"]["status"]).contains("192.168.2.0/24"),
        "{}",
        n1["agent"]
    );
    let n2 = attempt.machine("n2")?;
    ensure!(
        text(&n2["agent"]["log"]).contains("encapsulation"),
        "{}",
        n2["agent"]
    );
    ensure!(
        text(&n2["nft"]).contains("table ip podlab"),
        "{}",
        n2["nft"]
    );
    let has = |machine: &Value, item: &str, wanted: &dyn Fn(&Value) -> bool| {
        machine[item]["value"]
            .as_array()
            .is_some_and(|all| all.iter().any(wanted))
    };
    let route = |table: u64, to: &'static str| {
        move |route: &Value| route["table"] == table && route["destination"] == to
    };
    ensure!(
        has(n2, "routes", &route(254, "192.168.1.0/24")),
        "{}",
        n2["routes"]
    );
    ensure!(
        has(n2, "routes", &route(255, "10.0.0.3/32")),
        "{}",
        n2["routes"]
    );
    ensure!(
        !has(n1, "routes", &route(254, "192.168.2.0/24")),
        "{}",
        n1["routes"]
    );
    ensure!(
        has(n2, "rules", &|rule| rule["table"] == 254),
        "{}",
        n2["rules"]
    );
    ensure!(has(n2, "processes", &|process| {
        process["command"]
            .as_str()
            .is_some_and(|command| command.contains("podlab-agent run"))
    }));
    ensure!(
        n2["sysctls"]["value"]["ipv4/ip_forward"] == "1",
        "{}",
        n2["sysctls"]
    );
    let b = attempt.machine("b")?;
    ensure!(
        has(b, "sockets", &|socket| {
            socket["local"] == "0.0.0.0:80" && socket["state"] == "LISTEN"
        }),
        "{}",
        b["sockets"]
    );
    let cluster = &bundle["clusters"][0];
    ensure!(cluster["datastore"]["value"]["nodes/n3.json"].is_string());
    ensure!(cluster["spec"]["value"]["pods"].as_array().map(Vec::len) == Some(3));
    let events = cluster["events"].as_array().context("no events")?;
    let last = events.last().context("no event")?;
    ensure!(
        last["event"] == "probe_failed" && last["machine"] == "a",
        "{last}"
    );
    let cells = &cluster["reachability"]["value"]["cells"];
    ensure!(cells[0][1]["lost"].is_object(), "a reaches b: {cells}");
    ensure!(
        cells[1][2]["reached"]["ttl"] == 62,
        "b does not reach c: {cells}"
    );
    Ok(())
}

/// The packets of the pair must open in the tools that people have.
#[podlab::test]
async fn the_packets_of_the_pair_are_a_capture_file() -> Result<()> {
    // It has the folder, and takes it with it.
    let failing = Failing::new()?;
    let attempt = failing.fail("fails_by_an_error", 1).await?;
    let file = attempt.folder.join("capture.pcapng");
    // As whoever runs the test: the folder is private.
    let listed = Command::new("tcpdump")
        .args(["-Z", "root", "-nnr"])
        .arg(&file)
        .output()
        .await?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(
        listed.contains("192.168.1.2 > 192.168.2.2: ICMP echo request"),
        "{listed}"
    );
    // An interface also for every device at which it was not seen.
    let recordings = read_pcapng(&file)?;
    let silent = recordings.iter().find(|tap| tap.device == "n2/tunl0");
    let silent = silent.context("no interface for n2/tunl0")?;
    ensure!(silent.packets.is_empty(), "{silent:?}");
    let expected = ["a/eth0", "n1/tunl0", "n1/eth0", "fabric/n1", "b/eth0"];
    for device in expected {
        let found = recordings.iter().any(|tap| tap.device == device);
        ensure!(found, "no interface for {device}");
    }
    // And beside the probe what it waited for in vain.
    let attempt = failing.fail("fails_by_a_link_that_is_down", 1).await?;
    let recordings = read_pcapng(&attempt.folder.join("capture.pcapng"))?;
    let asks = |device: &str| {
        let tap = recordings.iter().find(|tap| tap.device == device);
        let mut packets = tap.into_iter().flat_map(|tap| &tap.packets);
        let arp = |packet: &Packet| packet.arp().is_some_and(|arp| arp.target == N2);
        packets.any(|captured| arp(&captured.packet))
    };
    ensure!(asks("n1/eth0") && asks("fabric/n1"), "no ARP request");
    ensure!(!asks("n2/eth0"), "its link is not down");
    Ok(())
}

/// A retry that overwrites the evidence of the first failure hides what a flake was.
#[podlab::test]
async fn a_retry_has_a_folder_of_its_own() -> Result<()> {
    let failing = Failing::new()?;
    let first = failing.fail("fails_at_boot", 1).await?;
    let second = failing.fail("fails_at_boot", 2).await?;
    ensure!(second.bundle["attempt"] == 2 && first.bundle["attempt"] == 1);
    let kept = fs::read_to_string(first.folder.join("report.html"))?;
    ensure!(kept == first.report, "the first report has changed");
    ensure!(
        second.text.contains("fails_at_boot/2/report.html"),
        "{}",
        second.text
    );
    Ok(())
}

/// The end of an agent that refuses to start is the commonest failure of all: what came to be of
/// the cluster must be there.
#[podlab::test]
async fn a_boot_that_fails_leaves_what_came_to_be() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_at_boot", 1).await?;
    ensure!(
        attempt
            .text
            .contains("unexpected argument '--no-such-flag'"),
        "{}",
        attempt.text
    );
    let n1 = attempt.machine("n1")?;
    // The first agent that ends ends the boot; the others may not have come to say anything.
    let mut logs = Vec::new();
    for name in ["n1", "n2", "n3"] {
        logs.push(attempt.machine(name)?["agent"]["log"]["value"].to_string());
    }
    ensure!(
        logs.iter().any(|log| log.contains("--no-such-flag")),
        "{logs:?}"
    );
    let addresses = n1["addresses"]["value"].to_string();
    ensure!(addresses.contains("10.0.0.2/24"), "{addresses}");
    Ok(())
}

/// A panic says what it would say without evidence, and leaves as much.
#[podlab::test]
async fn a_panic_leaves_evidence_too() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_by_a_panic", 1).await?;
    let text = &attempt.text;
    ensure!(
        text.contains("panicked at scenarios/src/bin/failing/main.rs:"),
        "{text}"
    );
    ensure!(
        text.contains("the panic of the test\n  left: None\n right: Some(62)\n"),
        "{text}"
    );
    // A rule of n2's: the packet comes out of the tunnel and not to the pod.
    let lost = diagnosis(&attempt)?;
    ensure!(lost.contains("between n2/tunl0 and n2/cali"), "{lost}");
    ensure!(
        lost.contains("n2: dropped by `ip daddr 192.168.2.2 drop`"),
        "{lost}"
    );
    Ok(())
}

/// All clusters of a test are in its bundle, also one that a task of the test still holds.
#[podlab::test]
async fn every_cluster_of_a_test_is_collected() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_with_two_clusters", 1).await?;
    let clusters = attempt.bundle["clusters"].as_array().map(Vec::len);
    ensure!(clusters == Some(2), "{clusters:?}");
    // It failed on no pair: nothing is blamed.
    ensure!(
        attempt.bundle["diagnosis"].is_null(),
        "{}",
        attempt.bundle["diagnosis"]
    );
    Ok(())
}

/// What a test took down itself before it failed is gone at once, as anywhere else, and is no
/// evidence.
#[podlab::test]
async fn a_cluster_that_was_dropped_before_is_not_kept_for_the_end() -> Result<()> {
    let failing = Failing::new()?;
    let output = failing.run("fails_after_a_drop").await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("the error after the drop"), "{text}");
    ensure!(failing.left()?.is_empty(), "{:?}", failing.left()?);
    Ok(())
}

/// Evidence of green tests would bury that of red ones.
#[podlab::test]
async fn what_passes_expects_its_error_or_is_skipped_leaves_nothing() -> Result<()> {
    let failing = Failing::new()?;
    for test in ["passes", "expects_an_error", "is_skipped"] {
        let output = failing.run(test).await?;
        ensure!(output.status.success(), "{test}: {output:?}");
    }
    ensure!(failing.left()?.is_empty(), "{:?}", failing.left()?);
    Ok(())
}

/// A folder that cannot be written is no reason to hide why the test failed.
#[podlab::test]
async fn evidence_that_cannot_be_written_hides_nothing() -> Result<()> {
    let failing = Failing::new()?;
    let nowhere = Path::new("/proc/nowhere");
    let mut command = failing.command("fails_at_boot");
    let output = command.env("PODLAB_EVIDENCE", nowhere).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        text.contains("unexpected argument '--no-such-flag'"),
        "{text}"
    );
    ensure!(
        text.contains("no evidence: cannot make a folder in /proc/nowhere"),
        "{text}"
    );
    Ok(())
}

/// The machines are read when they are whole again, and so that nothing hangs on a broken link;
/// but the pair is traced while the fault is in force: else nobody would see what it did.
#[podlab::test]
async fn faults_are_named_and_healed_before_the_machines_are_read() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_with_a_fault", 1).await?;
    let cluster = &attempt.bundle["clusters"][0];
    let faults = cluster["faults"].as_array().context("no faults")?;
    ensure!(faults.len() == 1, "{faults:?}");
    let fault = faults[0].as_str().context("no text")?;
    ensure!(fault.contains("n1") && fault.contains("n2"), "{fault}");
    ensure!(attempt.report.contains("faults in force when it failed"));
    ensure!(
        cluster["healing"].get("value").is_some(),
        "{}",
        cluster["healing"]
    );
    let lost = diagnosis(&attempt)?;
    ensure!(
        lost.starts_with("lost between fabric/n1 and fabric/n2: fabric: "),
        "{lost}"
    );
    let cells = &cluster["reachability"]["value"]["cells"];
    ensure!(
        cells[0][1]["reached"]["ttl"] == 62,
        "a does not reach b again: {cells}"
    );
    Ok(())
}

/// Of a matrix with a wrong cell the reader wants the matrix, the first wrong pair, and the packets
/// that were captured meanwhile, although the capture was dropped when the test ended.
#[podlab::test]
async fn a_matrix_names_its_first_wrong_pair_and_captures_are_kept() -> Result<()> {
    let failing = Failing::new()?;
    let attempt = failing.fail("fails_in_a_matrix", 1).await?;
    let cluster = &attempt.bundle["clusters"][0];
    ensure!(
        cluster["pair"]["from"] == "a" && cluster["pair"]["to"] == "b",
        "{}",
        cluster["pair"]
    );
    ensure!(diagnosis(&attempt)?.contains("n1: no route to 192.168.2.0/24"));
    let matrix = &cluster["results"][0];
    ensure!(matrix["name"] == "matrix", "{matrix}");
    ensure!(
        matrix["value"]["from"].as_array().map(Vec::len) == Some(3),
        "{matrix}"
    );
    ensure!(attempt.report.contains("✕ 1 of 1") && attempt.report.contains("1 ✓"));
    let kept = attempt.bundle["captures"][0]["value"]
        .as_str()
        .context("no capture")?;
    // The set wrote below the folder of all evidence, and nothing stays there.
    let written = failing.root.path().join("captures");
    let stays = fs::read_dir(&written).with_context(|| format!("{}", written.display()))?;
    ensure!(stays.count() == 0, "{} is not empty", written.display());
    let file = attempt.folder.join(kept);
    let listed = Command::new("tcpdump")
        .args(["-Z", "root", "-nnr"])
        .arg(&file)
        .arg("icmp[icmptype] == icmp-echo and dst 192.168.2.2 and src 192.168.3.2")
        .output()
        .await?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(
        listed.lines().count() >= 2,
        "c did not ask b in {}: {listed}",
        file.display()
    );
    Ok(())
}

/// An expectation of packets that is not met names its pair too.
#[podlab::test]
async fn an_expectation_that_is_not_met_leaves_its_pair() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_in_an_expectation", 1).await?;
    let pair = &attempt.bundle["clusters"][0]["pair"];
    ensure!(pair["from"] == "a" && pair["to"] == "b", "{pair}");
    // The network is whole: the report says so instead of blaming it.
    ensure!(pair["trace"]["value"]["arrived"] == true, "{pair}");
    ensure!(diagnosis(&attempt)?.contains("it was delivered and answered"));
    Ok(())
}

/// Who has a runner of his own gets the same, and may ask for it at any time.
#[podlab::test]
async fn evidence_is_there_for_other_runners_and_on_request() -> Result<()> {
    let failing = Failing::new()?;
    let output = failing.run("passes_around_a_failure").await?;
    ensure!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    let page = failing.root.path().join("watched/1/report.html");
    ensure!(
        told.contains(&format!("evidence:  {}", page.display())),
        "{told}"
    );
    ensure!(
        told.contains("diagnosis: a → b (192.168.2.2): lost between n1/"),
        "{told}"
    );
    ensure!(page.is_file());
    let mut left = failing.left()?;
    left.retain(|name| name != "watched");
    ensure!(
        left.len() == 1 && left[0].starts_with("on_request-"),
        "{left:?}"
    );
    Ok(())
}
