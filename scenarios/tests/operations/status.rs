//! `podlab-agent status`.

use anyhow::Result;
use podlab::agent::{FOLDER, PodlabAgent};
use podlab_scenarios::backend as backends;
use podlab_scenarios::seed::{self, WORKER_1};
use rstest::rstest;

use crate::program::{self, DATASTORE, command};

/// If this fails, whoever looks for a fault is told that there is none, or sent after one that
/// is not there; or looking changes what is looked at.
#[rstest]
#[case("kernel", 0)]
#[case("ebpf", 0)]
// Its two packet sockets go with the agent that is stopped.
#[case("userspace", 2)]
#[podlab::test]
async fn status_shows_desired_against_actual_and_says_it_by_its_exit_code(
    #[case] backend: &str,
    #[case] gone_with_the_agent: usize,
) -> Result<()> {
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = backends::boot(seed::spec(), agent, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let agent = program::path(&node)?;
    let ask = ["status", "--datastore", DATASTORE, "--node", WORKER_1];

    let equal = command(&node, &agent, &ask).await?;
    assert_eq!(equal.status.code(), Some(0), "{}", equal.stdout);
    assert!(
        equal.stdout.starts_with("node k8s-worker-1: all ")
            && !equal.stdout.lines().any(|line| line.starts_with('!')),
        "{}",
        equal.stdout
    );

    node.stop_agent().await?;
    for change in [
        "ip route del 192.168.2.0/24",
        "ip link set tunl0 mtu 1300",
        "ip neigh del 192.168.1.12 dev calied9d42cb137",
        "sysctl -qw net.ipv4.conf.calied9d42cb137.proxy_arp=0",
    ] {
        node.exec(change).await?.success()?;
    }
    let before = (node.routes().await?, node.links().await?);
    let different = command(&node, &agent, &ask).await?;
    assert_eq!(different.status.code(), Some(1), "{}", different.stdout);
    let marked: Vec<Vec<&str>> = different
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("! "))
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|side| !side.is_empty())
                .collect()
        })
        .collect();
    let route = "route 192.168.2.0/24 via 10.12.22.3 dev tunl0 proto 80 mtu 1440 onlink";
    let proxy_arp = "sysctl net.ipv4.conf.calied9d42cb137.proxy_arp";
    let sysctls = [format!("{proxy_arp}=1"), format!("{proxy_arp}=0")];
    assert!(marked.contains(&vec![route, "-"]), "{marked:#?}");
    assert!(
        marked.contains(&vec!["link tunl0 mtu 1440 up", "link tunl0 mtu 1300 up"]),
        "{marked:#?}"
    );
    assert!(
        marked.contains(&sysctls.iter().map(String::as_str).collect()),
        "{marked:#?}"
    );
    assert_eq!(marked.len(), 4 + gone_with_the_agent, "{marked:#?}");
    assert_eq!((node.routes().await?, node.links().await?), before);

    let json = command(&node, &agent, &[&ask[..], &["--json"]].concat()).await?;
    assert_eq!(json.status.code(), Some(1));
    assert!(json.stdout.contains(r#""equal": false"#), "{}", json.stdout);

    node.start_agent().await?;
    assert_eq!(command(&node, &agent, &ask).await?.status.code(), Some(0));
    Ok(())
}

/// If this fails, a node whose programs or rules somebody changed looks as if all were well: the
/// agent keeps more than routes.
#[rstest]
#[podlab::test]
async fn what_each_backend_and_the_packet_filter_keep_is_compared(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = backends::boot(seed::spec(), agent, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let agent = program::path(&node)?;
    let mtu_file = format!("{FOLDER}/mtu");
    let ask = ["status", "--datastore", DATASTORE, "--node", WORKER_1];
    let ask = [&ask[..], &["--mtu-file", &mtu_file]].concat();
    let equal = command(&node, &agent, &ask).await?;
    assert_eq!(equal.status.code(), Some(0), "{}", equal.stdout);
    let headline = format!("\nencapsulation {backend}, pod mtu 1440\n");
    assert!(equal.stdout.contains(&headline), "{}", equal.stdout);

    // Without an agent nothing is repaired; the userspace tunnel ends with it.
    node.kill_agent().await?;
    let mut damage = vec![
        "nft delete element ip podlab nodes { 10.12.22.3 }",
        "nft insert rule ip podlab input accept",
        "rm /run/podlab/agent/mtu",
    ];
    let mut expected = vec![
        ("nft set nodes: 10.12.22.3", "-"),
        ("nft set nodes: 10.12.22.9", "-"),
        ("-", "nft chain input: accept"),
        ("pod mtu 1440", "-"),
    ];
    match backend {
        "ebpf" => {
            damage.push("tc filter del dev tunl0-x ingress");
            expected.push(("tc filter podlab-encapsulate dev tunl0-x ingress", "-"));
            expected.push(("tc allow-list 10.12.22.9/32", "-"));
        }
        "userspace" => {
            expected.push(("packet socket dev tunl0-x", "-"));
            expected.push(("packet socket dev ens192", "-"));
        }
        _ => {}
    }
    for command in damage {
        node.exec(command).await?.success()?;
    }
    let other = br#"{"address":"10.12.22.9/16","blocks":[]}"#;
    cluster.datastore().write("nodes/other.json", other)?;
    // Of the userspace backend nothing is left to be recognised by.
    let ask = [&ask[..], &["--encap", backend]].concat();
    let different = command(&node, &agent, &ask).await?;
    assert_eq!(different.status.code(), Some(1), "{}", different.stdout);
    let mut marked: Vec<(&str, &str)> = different
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("! ")?.split_once("  "))
        .map(|(desired, actual)| (desired.trim(), actual.trim()))
        .collect();
    marked.sort_unstable();
    expected.sort_unstable();
    assert_eq!(marked, expected, "{}", different.stdout);
    Ok(())
}
