//! `podlab-agent status`.

use anyhow::Result;
use podlab_scenarios::seed::{self, WORKER_1};

use crate::program::{self, DATASTORE, command};

/// If this fails, whoever looks for a fault is told that there is none, or sent after one that
/// is not there; or looking changes what is looked at.
#[tokio::test]
async fn status_shows_desired_against_actual_and_says_it_by_its_exit_code() -> Result<()> {
    let cluster = seed::boot().await?;
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
    assert_eq!(marked.len(), 4, "{marked:#?}");
    assert_eq!((node.routes().await?, node.links().await?), before);

    let json = command(&node, &agent, &[&ask[..], &["--json"]].concat()).await?;
    assert_eq!(json.status.code(), Some(1));
    assert!(json.stdout.contains(r#""equal": false"#), "{}", json.stdout);

    node.start_agent().await?;
    assert_eq!(command(&node, &agent, &ask).await?.status.code(), Some(0));
    Ok(())
}
