//! Traces through the tunnels of another agent, whose encapsulation ours does not know.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use podlab::agent::{Agent, AgentError, PodlabAgent};
use podlab::process::Program;
use podlab::trace::{Cause, Diagnosis, Leg, Trace, Verdict};
use podlab::{Cluster, Node};
use rstest::rstest;

const TUNNEL: &str = "vxlan0";

/// Our agent, whose pods are then connected by hand through another device.
#[derive(Debug)]
struct ByVxlan(PodlabAgent);

impl Agent for ByVxlan {
    fn name(&self) -> &str {
        "by-vxlan"
    }

    fn program(&self, node: &str, datastore: &Path) -> Result<Program, AgentError> {
        self.0.program(node, datastore)
    }

    fn tunnel_device(&self) -> &str {
        TUNNEL
    }
}

/// The hardware address of a node's tunnel device.
fn mac(node: &Node) -> String {
    format!("02:00:00:00:00:{:02x}", node.address().octets()[3])
}

async fn run(node: &Node, script: &str) -> Result<()> {
    let program = Program::new("sh").args(["-ec", script]);
    node.exec(program).await?.success()?;
    Ok(())
}

/// Three nodes with a pod each, and a VXLAN between all of them, as flannel would make it: a static
/// neighbour and a static forwarding entry for every other node.
async fn boot() -> Result<Cluster> {
    let mut spec = Cluster::builder();
    for number in 1..=3 {
        spec = spec
            .node(format!("n{number}"), |node| {
                node.address(format!("10.12.0.1{number}/24"))
                    .block(format!("192.168.{number}.0/24"))
            })
            .pod(format!("p{number}"), |pod| {
                pod.on(format!("n{number}"))
                    .address(format!("192.168.{number}.5"))
            });
    }
    let cluster = spec.boot_with(ByVxlan(PodlabAgent::new())).await?;
    for own in cluster.nodes() {
        own.stop_agent().await?;
        let (address, own_mac) = (own.address(), mac(&own));
        let device = format!(
            "ip link add {TUNNEL} address {own_mac} mtu 1400 type vxlan id 7 dstport 4789 \
                local {address} nolearning; ip link set {TUNNEL} up"
        );
        run(&own, &device).await?;
        for other in cluster.nodes() {
            if other.name() == own.name() {
                continue;
            }
            let (peer, peer_mac, block) = (other.address(), mac(&other), other.blocks()[0]);
            let entries = format!(
                "bridge fdb append {peer_mac} dev {TUNNEL} dst {peer}; \
                 ip neighbour replace {peer} lladdr {peer_mac} dev {TUNNEL} nud permanent; \
                 ip route replace {block} via {peer} dev {TUNNEL} onlink"
            );
            run(&own, &entries).await?;
        }
    }
    Ok(cluster)
}

async fn trace(cluster: &Cluster) -> Result<Trace> {
    let (from, to) = (cluster.pod("p1")?, cluster.pod("p2")?);
    Ok(cluster.trace(&from, &to).await?)
}

/// What is wrong on the way there, which must be on `n1`.
fn diagnosis(trace: &Trace) -> Result<&Diagnosis> {
    assert_eq!(trace.verdict(), Verdict::Lost(Leg::There), "{trace}");
    let diagnosis = trace.diagnosis().context("no diagnosis")?;
    assert_eq!(diagnosis.machine, "n1", "{trace}");
    Ok(diagnosis)
}

/// The last place where it was right, and the first where it was not.
fn places(diagnosis: &Diagnosis) -> (Option<String>, Option<String>) {
    let stretch = &diagnosis.stretch;
    let text = |point: &Option<podlab::trace::Point>| point.as_ref().map(ToString::to_string);
    (text(&stretch.after), text(&stretch.before))
}

fn between(after: &str, before: &str) -> (Option<String>, Option<String>) {
    (Some(after.to_owned()), Some(before.to_owned()))
}

/// If this fails, the trace serves our own agent only: an encapsulation that the packet decoder
/// does not know hides the probe from it.
#[podlab::test]
async fn a_ping_is_followed_through_vxlan() -> Result<()> {
    let cluster = boot().await?;
    let trace = trace(&cluster).await?;
    anyhow::ensure!(trace.is_delivered(), "{trace}");
    let on_the_wire = trace.there.iter().find(|hop| hop.point.machine == "fabric");
    let on_the_wire = on_the_wire.context("it crosses the fabric")?;
    assert_eq!(on_the_wire.depth(), 1, "{trace}");
    let sources: Vec<_> = on_the_wire.headers().map(|header| header.source).collect();
    let expected = [cluster.node("n1")?.address(), cluster.pod("p1")?.address()];
    assert_eq!(sources, expected);
    // Whoever reads it sees both headers.
    let told = trace.to_string();
    let both = told.lines().any(|line| {
        line.contains("fabric/n1 ")
            && line.contains("[10.12.0.11 > 10.12.0.12 ttl 64 udp]")
            && line.contains("[192.168.1.5 > 192.168.2.5 ttl 63 icmp]")
    });
    assert!(both, "{told}");
    Ok(())
}

/// If this fails, a forwarding entry that leads to another node is taken for a wrong route.
#[podlab::test]
async fn a_forwarding_entry_to_another_node_is_named() -> Result<()> {
    let cluster = boot().await?;
    let (n1, n2, n3) = (
        cluster.node("n1")?,
        cluster.node("n2")?,
        cluster.node("n3")?,
    );
    let entry = format!(
        "bridge fdb replace {} dev {TUNNEL} dst {}",
        mac(&n2),
        n3.address()
    );
    run(&n1, &entry).await?;
    let trace = trace(&cluster).await?;
    let diagnosis = diagnosis(&trace)?;
    assert_eq!(
        places(diagnosis),
        between("n1/vxlan0", "n1/eth0"),
        "{trace}"
    );
    let expected = Cause::WrongTunnelPeer {
        device: TUNNEL.to_owned(),
        expected: n2.address(),
        found: n3.address(),
    };
    assert_eq!(diagnosis.cause, expected, "{trace}");
    // The hops show where it went instead, with both headers.
    let strayed = trace.there.iter().find(|hop| {
        let outer = hop.outer().map(|outer| outer.destination);
        hop.point.to_string() == "n3/eth0" && outer == Some(Ipv4Addr::new(10, 12, 0, 13))
    });
    assert!(strayed.is_some(), "{trace}");
    Ok(())
}

/// If this fails, a route to the wrong node is taken for a wrong forwarding entry.
#[podlab::test]
async fn a_route_to_another_node_is_told_from_that() -> Result<()> {
    let cluster = boot().await?;
    let (n2, n3) = (cluster.node("n2")?, cluster.node("n3")?);
    let route = format!(
        "ip route replace {} via {} dev {TUNNEL} onlink",
        n2.blocks()[0],
        n3.address()
    );
    run(&cluster.node("n1")?, &route).await?;
    let trace = trace(&cluster).await?;
    let diagnosis = trace.diagnosis().context("no diagnosis")?;
    let expected = Cause::WrongNextHop {
        expected: n2.address(),
        found: n3.address(),
    };
    assert_eq!(diagnosis.cause, expected, "{trace}");
    Ok(())
}

/// If this fails, a neighbour entry that is wrong inside of the tunnel shows as nothing but silence
/// behind it: the device has no forwarding entry for such a frame, or sends it to everybody and
/// nobody takes it.
#[rstest]
#[case::and_nowhere_to_send_it(false, between("n1/vxlan0", "n1/eth0"))]
#[case::and_sent_to_the_right_node(true, between("n2/eth0", "n2/vxlan0"))]
#[podlab::test]
async fn a_neighbour_entry_in_the_tunnel_that_is_wrong_is_named(
    #[case] flooded: bool,
    #[case] expected: (Option<String>, Option<String>),
) -> Result<()> {
    let cluster = boot().await?;
    let (n1, n2) = (cluster.node("n1")?, cluster.node("n2")?);
    let address = n2.address();
    let nobody = "02:00:00:00:00:99";
    let entry =
        format!("ip neighbour replace {address} lladdr {nobody} dev {TUNNEL} nud permanent");
    run(&n1, &entry).await?;
    if flooded {
        let everybody = format!("bridge fdb append 00:00:00:00:00:00 dev {TUNNEL} dst {address}");
        run(&n1, &everybody).await?;
    }
    let trace = trace(&cluster).await?;
    let diagnosis = diagnosis(&trace)?;
    assert_eq!(places(diagnosis), expected, "{trace}");
    let Cause::WrongNeighbour {
        address: of, found, ..
    } = &diagnosis.cause
    else {
        panic!("{trace}");
    };
    assert_eq!((*of, found.to_string().as_str()), (Some(address), nobody));
    let told = diagnosis.to_string();
    assert!(told.contains("which is not n2/vxlan0"), "{told}");
    Ok(())
}
