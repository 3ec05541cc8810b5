//! What is in a bundle, item by item: everything that a test has put into the kernel, with its
//! values, and not only that something was collected.

use anyhow::{Context, Result, ensure};
use podlab::capture::read_pcapng;
use serde_json::{Value, json};

use crate::failing::{Attempt, Failing};

/// An item of a machine that is a list.
fn list<'a>(machine: &'a Value, item: &str) -> Result<&'a Vec<Value>> {
    let value = machine[item]["value"].as_array();
    value.with_context(|| format!("{item}: {}", machine[item]))
}

/// The entry of a list that has all of these fields; fields that differ from run to run are not
/// named.
fn has(machine: &Value, item: &str, wanted: &Value) -> Result<()> {
    let wanted = wanted.as_object().context("an object")?;
    let all = list(machine, item)?;
    let found = all.iter().any(|entry| {
        let mut fields = wanted.iter();
        fields.all(|(name, value)| entry[name] == *value)
    });
    ensure!(found, "no {wanted:?} among {item}: {all:#?}");
    Ok(())
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str> {
    let text = value["value"].as_str();
    text.with_context(|| format!("{what}: {value}"))
}

async fn marked() -> Result<(Failing, Attempt)> {
    let failing = Failing::new()?;
    let attempt = failing.fail("fails_with_marks_of_its_own", 1).await?;
    Ok((failing, attempt))
}

/// If this fails, the bundle has something for every table of a machine, but not what was in it.
#[podlab::test]
async fn what_was_put_into_the_kernel_is_in_the_bundle_with_its_values() -> Result<()> {
    let (_failing, attempt) = marked().await?;
    let n2 = attempt.machine("n2")?;
    let marks = [
        (
            "links",
            json!({"name": "br9", "kind": "bridge", "mtu": 1442, "up": true}),
        ),
        (
            "links",
            json!({"name": "eth0", "kind": "veth", "mtu": 1500, "running": true}),
        ),
        (
            "addresses",
            json!({"interface": "br9", "address": "10.99.0.1/24"}),
        ),
        (
            "addresses",
            json!({"interface": "eth0", "address": "10.0.0.3/24"}),
        ),
        (
            "routes",
            json!({"table": 77, "destination": "10.98.0.0/16", "kind": "unicast", "interface": "br9"}),
        ),
        (
            "routes",
            json!({"table": 254, "destination": "192.168.1.0/24", "gateway": "10.0.0.2",
                "interface": "tunl0", "onlink": true, "protocol": 80}),
        ),
        (
            "routes",
            json!({"table": 254, "destination": "192.168.2.0/24", "kind": "blackhole"}),
        ),
        (
            "routes",
            json!({"table": 255, "destination": "10.99.0.1/32", "scope": "host"}),
        ),
        (
            "rules",
            json!({"priority": 77, "destination": "10.98.0.0/16", "action": "lookup", "table": 77}),
        ),
        (
            "neighbours",
            json!({"interface": "br9", "address": "10.99.0.9", "mac": "02:00:00:00:00:99",
                "state": "permanent"}),
        ),
        ("qdiscs", json!({"interface": "br9", "kind": "tbf"})),
        ("qdiscs", json!({"interface": "br9", "kind": "clsact"})),
        (
            "filters",
            json!({"interface": "br9", "direction": "ingress", "kind": "bpf", "priority": 9}),
        ),
    ];
    for (item, wanted) in &marks {
        has(n2, item, wanted)?;
    }
    // Both pings have passed.
    let links = list(n2, "links")?;
    let underlay = links.iter().find(|link| link["name"] == "eth0");
    let received = underlay.and_then(|link| link["statistics"]["rx_packets"].as_u64());
    ensure!(received >= Some(2), "eth0 received {received:?}");
    let nft = text(&n2["nft"], "nft")?;
    let rule = "ip daddr 192.168.2.2 icmp type echo-request counter packets ";
    let counted = nft.split(rule).nth(1).context("no counter")?;
    let counted: u64 = counted.split(' ').next().unwrap_or_default().parse()?;
    ensure!(counted >= 2, "{counted} in {nft}");
    let sysctls = &n2["sysctls"]["value"];
    ensure!(sysctls["ipv4/conf/br9/rp_filter"] == "2", "{sysctls}");
    ensure!(sysctls["ipv4/conf/eth0/rp_filter"].is_string(), "{sysctls}");
    has(
        attempt.machine("b")?,
        "sockets",
        &json!({"local": "0.0.0.0:80", "state": "LISTEN"}),
    )?;
    // What has counted nothing is left out.
    let counters = &attempt.machine("b")?["counters"]["value"];
    let echoes = counters["Icmp.InEchos"].as_u64();
    ensure!(echoes >= Some(2), "{counters}");
    Ok(())
}

/// If this fails, one sees what the kernel had, and not what the agent made of what it was told.
#[podlab::test]
async fn log_status_and_datastore_are_those_of_the_agents() -> Result<()> {
    let (_failing, attempt) = marked().await?;
    let n2 = attempt.machine("n2")?;
    let agent = &n2["agent"];
    ensure!(agent["running"] == true, "{agent}");
    let log = text(&agent["log"], "log")?;
    ensure!(log.contains("ready: 4 routes in place"), "{log}");
    let status = text(&agent["status"], "status")?;
    ensure!(status.starts_with("node n2: all "), "{status}");
    let route = "route 192.168.1.0/24 via 10.0.0.2 dev tunl0";
    ensure!(
        status.matches(route).count() == 2,
        "wanted, actual: {status}"
    );
    let files = &attempt.bundle["clusters"][0]["datastore"]["value"];
    let file = |path: &str| -> Result<Value> {
        let content = files[path].as_str();
        Ok(serde_json::from_str(
            content.with_context(|| format!("no {path}"))?,
        )?)
    };
    let n3 = file("nodes/n3.json")?;
    ensure!(
        n3["address"] == "10.0.0.4/24" && n3["blocks"][0] == "192.168.3.0/24",
        "{n3}"
    );
    let b = file("endpoints/n2/default.b.json")?;
    ensure!(b["addresses"][0] == "192.168.2.2", "{b}");
    let pool = file("pools/default-pool.json")?;
    ensure!(pool["encapsulation"] == "always", "{pool}");
    Ok(())
}

/// If this fails, what happened before the failure cannot be told any more, nor what was seen when
/// the pair was asked once more.
#[podlab::test]
async fn events_matrix_trace_and_packets_tell_the_same_story() -> Result<()> {
    let (_failing, attempt) = marked().await?;
    let cluster = &attempt.bundle["clusters"][0];
    let events = cluster["events"].as_array().context("no events")?;
    let place = |wanted: &Value| -> Result<usize> {
        let wanted = wanted.as_object().context("an object")?;
        let found = events.iter().position(|event| {
            let mut fields = wanted.iter();
            fields.all(|(name, value)| event[name] == *value)
        });
        found.with_context(|| format!("no {wanted:?} among {events:#?}"))
    };
    let order = [
        place(&json!({"event": "agent_ready", "machine": "n2"}))?,
        place(&json!({"event": "booted"}))?,
        place(&json!({"event": "program_started", "machine": "n2"}))?,
        place(&json!({"event": "probe_answered", "machine": "a", "to": "192.168.2.2"}))?,
        place(&json!({"event": "note", "text": "now the cable is cut"}))?,
        place(&json!({"event": "link_set", "machine": "fabric", "device": "n1", "up": false}))?,
        place(&json!({"event": "probe_failed", "machine": "a", "probe": 2}))?,
    ];
    ensure!(order.is_sorted(), "{order:?}");

    let reachability = &cluster["reachability"]["value"];
    ensure!(
        reachability["machines"] == json!(["a", "b", "c"]),
        "{reachability}"
    );
    let cells = &reachability["cells"];
    for (from, to, reached) in [(0, 1, false), (2, 0, false), (1, 2, true), (2, 1, true)] {
        let cell = &cells[from][to];
        let found = match reached {
            true => cell["reached"]["ttl"] == 62,
            false => cell["lost"]["why"].is_string(),
        };
        ensure!(found, "{from} to {to}: {cell}");
    }

    let pair = &cluster["pair"];
    ensure!(pair["from"] == "a" && pair["to"] == "b", "{pair}");
    let trace = &pair["trace"]["value"];
    ensure!(
        trace["stretch"]["before"] == json!({"machine": "n1", "device": "eth0"}),
        "{trace}"
    );
    ensure!(trace["machine"] == "n1", "{trace}");
    let hops = trace["hops"].as_array().context("no hops")?;
    let first = hops.first().context("seen nowhere")?;
    let header = json!({"source": "192.168.1.2", "destination": "192.168.2.2", "ttl": 64});
    ensure!(
        first["tap"] == "a/eth0" && first["headers"] == json!([header]),
        "{first}"
    );
    ensure!(hops.iter().all(|hop| hop["tap"] != "n1/eth0"), "{trace}");

    let recordings = read_pcapng(&attempt.folder.join("capture.pcapng"))?;
    let seen = |device: &str| {
        let tap = recordings.iter().find(|tap| tap.device == device);
        tap.map(|tap| {
            let mut packets = tap.packets.iter();
            packets.any(|captured| captured.packet.icmp().is_some())
        })
    };
    ensure!(
        seen("n1/tunl0") == Some(true),
        "n1/tunl0: {:?}",
        seen("n1/tunl0")
    );
    ensure!(
        seen("n2/eth0") == Some(false),
        "n2/eth0: {:?}",
        seen("n2/eth0")
    );
    Ok(())
}

/// With the ebpf backend the tunnel is a pair of programs: without them and their maps a bundle
/// would tell nothing of it, nor that they have dropped what they had no peer for.
#[podlab::test(needs = "bpf")]
async fn bpf_programs_are_there_with_their_maps() -> Result<()> {
    let attempt = Failing::new()?.fail("fails_on_ebpf", 1).await?;
    let n1 = attempt.machine("n1")?;
    let programs = list(n1, "programs")?;
    for (name, device) in [("encapsulate", "tunl0-x"), ("decapsulate", "eth0")] {
        let program = programs.iter().find(|program| program["name"] == name);
        let program = program.with_context(|| format!("no {name}: {programs:#?}"))?;
        ensure!(
            program["tag"].as_str().is_some_and(|tag| tag.len() == 16),
            "{program}"
        );
        has(
            n1,
            "filters",
            &json!({"interface": device, "direction": "ingress", "program_id": program["id"]}),
        )?;
    }
    let maps = programs
        .iter()
        .filter_map(|program| program["maps"].as_array());
    let maps: Vec<&Value> = maps.flatten().collect();
    let entries = |name: &str| {
        let map = maps.iter().find(|map| map["name"] == name);
        let entries = map.and_then(|map| map["entries"].as_array());
        entries.with_context(|| format!("no map {name}: {maps:#?}"))
    };
    // A prefix of 32 bits and the address of another node.
    let mut peers: Vec<&str> = entries("peers")?
        .iter()
        .filter_map(|entry| entry[0].as_str())
        .collect();
    peers.sort_unstable();
    ensure!(
        peers == ["200000000a000003", "200000000a000004"],
        "{peers:?}"
    );
    // The own address is part of the configuration.
    let config = entries("config")?;
    ensure!(
        config.len() == 1
            && config[0][1]
                .as_str()
                .is_some_and(|value| value.contains("0a000002")),
        "{config:?}"
    );
    // One value per processor: the sixth counts receivers that are no peers.
    let drops = entries("drops")?;
    let receivers = drops.iter().find(|entry| entry[0] == "05000000");
    let values = receivers
        .and_then(|entry| entry[1].as_str())
        .context("no counter")?;
    let counts = values
        .split(' ')
        .map(|value| u64::from_str_radix(value, 16));
    let counts: Vec<u64> = counts.collect::<Result<_, _>>()?;
    ensure!(counts.iter().any(|count| *count > 0), "{drops:?}");
    Ok(())
}
