//! `podlab-agent cleanup`.

use std::collections::BTreeSet;

use anyhow::Result;
use podlab::Node;
use podlab::agent::PodlabAgent;
use podlab::netlink::{Address, Link, Neighbour, NeighbourState, Route, RouteProtocol};
use podlab::process::Program;
use podlab_scenarios::seed::{self, TUNNEL, WORKER_1, WORKER_2};
use rstest::rstest;

use crate::program::{self, add_foreign_filter, command, filters, ttl};

/// What stays: sysctls, since nobody knows who relies on them by now (`accept_redirects` follows
/// `ip_forward`) …
const SYSCTLS: &str = "net.ipv4.ip_forward|net.ipv4.conf.*.(forwarding|accept_redirects|proxy_arp|route_localnet)|\
    net.ipv4.neigh.*.proxy_delay|net.ipv6.conf.*.(accept_ra|disable_ipv6)";
const ASK: &str = "sysctl -a -r '^net.ipv[46]' 2>/dev/null";
/// … an empty place for tc programs, which may be anybody's …
const PLACE: &str = "qdisc clsact ";
/// … and the device that the ipip module makes in every namespace, as the module makes it: down
/// and without addresses.
fn is_the_modules(link: &Link) -> bool {
    link.name == TUNNEL && link.kind.as_deref() == Some("ipip") && !link.up
}

/// What a node's kernel has, as far as an agent could have left something, but for that.
#[derive(Debug, PartialEq)]
struct State {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
    ruleset: String,
    filters: [String; 2],
    /// Lines of `tc qdisc`.
    places: Vec<String>,
    /// Lines of `sysctl` about IP.
    sysctls: Vec<String>,
}

async fn state(node: &Node) -> Result<State> {
    let mut neighbours = node.neighbours().await?;
    neighbours.retain(|neighbour| neighbour.state == NeighbourState::Permanent);
    let mut links = node.links().await?;
    let all = links.len();
    links.retain(|link| !is_the_modules(link));
    // It keeps the queue that it got when it was brought up, and its MTU.
    let of_the_module = if links.len() < all { TUNNEL } else { "nobody" };
    let lines = async |command: &str, but: &str| {
        let command = format!("{command} | grep -Ev '^({but})' | grep -vwe '{of_the_module}'");
        let shell = Program::new("sh").args(["-c", &command]);
        let output = node.exec(shell).await?.success()?.stdout;
        anyhow::Ok(output.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    Ok(State {
        links,
        places: lines("tc qdisc show", PLACE).await?,
        sysctls: lines(ASK, SYSCTLS).await?,
        addresses: node.addresses().await?,
        routes: node.routes().await?,
        neighbours,
        ruleset: node.exec("nft list ruleset").await?.success()?.stdout,
        filters: [
            filters(node, "lo").await?,
            filters(node, &node.underlay()).await?,
        ],
    })
}

/// If this fails, an agent cannot be removed from a node, or takes with it what others made. The
/// node is compared with what it was before its first agent.
#[rstest]
#[podlab::test]
async fn cleanup_removes_what_the_agent_made_and_nothing_else(
    #[values("kernel", "ebpf", "userspace")] backend: &str,
) -> Result<()> {
    let mut spec = seed::spec();
    let worker = spec.nodes.iter_mut().find(|node| node.name == WORKER_1);
    worker.expect("the seed has it").agent_later = true;
    let agent = PodlabAgent::with_encapsulation(backend);
    let cluster = podlab_scenarios::backend::boot(spec, agent, backend).await?;
    let node = cluster.node(WORKER_1)?;
    let agent = program::path(&cluster.node(WORKER_2)?)?;
    // Its own network and nothing else.
    let bare = node.routes().await?;
    assert_eq!(bare.len(), 2, "{bare:#?}");
    for theirs in [
        "ip route add 203.0.113.0/24 via 10.12.0.1 proto static",
        "ip route add 198.51.100.0/24 via 10.12.0.1 proto bird",
        "ip route add 203.0.113.0/24 via 10.12.0.1 table 100",
        "ip neigh replace 10.12.0.77 lladdr 02:00:00:00:00:77 dev ens192 nud permanent",
        "nft add table inet firewall",
        "nft add table ip podlab-not",
    ] {
        node.exec(theirs).await?.success()?;
    }
    add_foreign_filter(&node, "lo").await?;
    let before = state(&node).await?;

    node.start_agent().await?;
    assert_eq!(ttl(&cluster).await?, 62);
    node.stop_agent().await?;
    node.exec("nft add table inet podlab").await?.success()?;
    let with_agent = state(&node).await?;
    assert_ne!(with_agent, before);

    let trial = command(&node, &agent, &["cleanup", "--dry-run"])
        .await?
        .success()?;
    assert_eq!(state(&node).await?, with_agent, "a trial changes nothing");
    let done = command(&node, &agent, &["cleanup"]).await?.success()?;
    assert_eq!(state(&node).await?, before);
    assert_eq!(trial.stdout.replace("would remove", "removed"), done.stdout);
    let lines: BTreeSet<&str> = done.stdout.lines().collect();
    for line in [
        "removed route blackhole 192.168.1.0/24 proto 80",
        "removed route 192.168.2.0/24 via 10.12.22.3 dev tunl0 proto 80 mtu 1440 onlink",
        "removed neighbour 192.168.1.12 dev calied9d42cb137",
        "removed nftables table inet podlab",
    ] {
        assert!(
            lines.contains(line),
            "{line:?} is missing in\n{}",
            done.stdout
        );
    }

    let again = command(&node, &agent, &["cleanup"]).await?.success()?;
    assert_eq!(again.stdout, "nothing here is the agent's\n");
    assert_eq!(state(&node).await?, before);
    node.start_agent().await?;
    assert_eq!(ttl(&cluster).await?, 62, "and it can come back");
    Ok(())
}

/// If this fails, an administrator's route goes with the device that it leads into.
#[podlab::test]
async fn a_tunnel_that_an_administrators_route_leads_into_stays() -> Result<()> {
    let cluster = seed::boot().await?;
    let node = cluster.node(WORKER_1)?;
    let agent = program::path(&node)?;
    let add = "ip route add 203.0.113.0/24 via 10.12.22.3 dev tunl0 onlink proto static";
    node.exec(add).await?.success()?;
    node.stop_agent().await?;
    let done = command(&node, &agent, &["cleanup"]).await?.success()?;
    assert!(done.stdout.contains("kept link tunl0: "), "{}", done.stdout);
    let routes = node.routes().await?;
    assert!(
        routes
            .iter()
            .any(|route| route.protocol == RouteProtocol::STATIC)
    );
    assert!(
        !routes
            .iter()
            .any(|route| route.protocol == RouteProtocol::CALICO)
    );
    Ok(())
}
