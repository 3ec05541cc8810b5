//! The cluster that most of these scenarios change, and what is asked of it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use podlab::agent::PodlabAgent;
use podlab::capture::{Captured, Filter};
use podlab::event::Protocol::Icmp;
use podlab::eventually::eventually;
use podlab::matrix::Expectation;
use podlab::netlink::Route;
use podlab::packet::IcmpMessage;
use podlab::probe::icmp::PingOptions;
use podlab::spec::{ClusterSpec, Encapsulation};
use podlab::{Cluster, Error, Node, Pod};

/// How long agents may take to follow.
const SOON: Duration = Duration::from_secs(10);
/// How long one ping may take; the limits above are for what is to come.
const ANSWER: Duration = Duration::from_millis(300);

/// The pool of the cluster.
pub(crate) const POOL: &str = "default-pool";

/// Two nodes in one subnet, a third in another, and a pod on each: `p1` on `n1` and so on.
pub(crate) fn two_subnets(mode: Encapsulation) -> ClusterSpec {
    Cluster::builder()
        .pool("192.168.0.0/16", |pool| pool.encapsulation(mode))
        .node("n1", |n| n.address("10.12.0.11/24").block("192.168.1.0/24"))
        .node("n2", |n| n.address("10.12.0.12/24").block("192.168.2.0/24"))
        .node("n3", |n| n.address("10.13.0.13/24").block("192.168.3.0/24"))
        .pod("p1", |p| p.on("n1").address("192.168.1.5"))
        .pod("p2", |p| p.on("n2").address("192.168.2.5"))
        .pod("p3", |p| p.on("n3").address("192.168.3.5"))
}

/// The same nodes and pods where every pod reaches every other in this mode: `never` wants all
/// nodes in one subnet, for the router between two knows no pods.
pub(crate) fn connected(mode: Encapsulation) -> ClusterSpec {
    let mut spec = two_subnets(mode);
    if mode == Encapsulation::Never {
        let n3 = spec.nodes.iter_mut().find(|node| node.name == "n3");
        n3.expect("one of the three").address = "10.12.0.13/24".to_owned();
    }
    spec
}

/// Boots with this encapsulation backend in every node; a skip where the kernel lacks it.
pub(crate) async fn boot(spec: ClusterSpec, backend: &str) -> Result<Cluster, Error> {
    let agent = PodlabAgent::with_encapsulation(backend);
    podlab_scenarios::backend::boot(spec, agent, backend).await
}

/// Whether the way from one node to the pods of another leads through the tunnel.
pub(crate) fn by_tunnel(from: &Node, to: &Node, mode: Encapsulation) -> bool {
    match mode {
        Encapsulation::Always => true,
        Encapsulation::CrossSubnet => !same_subnet(from, to),
        Encapsulation::Never => false,
    }
}

/// Of the subnets here, which are /24.
pub(crate) fn same_subnet(one: &Node, other: &Node) -> bool {
    one.address().octets()[..3] == other.address().octets()[..3]
}

/// What a mode makes of the way from one node to the pods of another, in the words of
/// [`route_is`].
pub(crate) fn hop(from: &Node, to: &Node, mode: Encapsulation) -> String {
    let device = match by_tunnel(from, to, mode) {
        true => "tunl0".to_owned(),
        false => from.underlay(),
    };
    format!("via {} dev {device}", to.address())
}

/// Waits until `check` is content.
pub(crate) async fn soon<T, F>(what: impl Into<String>, check: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut check = check;
    // With `{:#}` the whole chain of causes is in the message.
    let check = || {
        let answer = check();
        async move { answer.await.map_err(|error| format!("{error:#}")) }
    };
    Ok(eventually(what, SOON, check).await?)
}

/// One ping that is given up soon.
pub(crate) async fn ping(from: &podlab::Machine, to: impl Into<Ipv4Addr>) -> Result<u8> {
    let options = PingOptions {
        timeout: ANSWER,
        ..PingOptions::default()
    };
    Ok(from.ping_with(to, &options).await?.ttl)
}

/// Waits until every pod reaches every other, and itself, over the right number of routers in both
/// directions.
pub(crate) async fn all_pairs(cluster: &Cluster) -> Result<()> {
    let matrix = cluster.matrix().all_pods().with_self();
    matrix
        .protocols([Icmp])
        .answer_within(ANSWER)
        .deadline(SOON)
        .expect_each(|question| {
            let nodes = (question.from.node()?, question.to.node()?);
            let itself = question.from.name() == question.to.name();
            let ttl = match (itself, nodes.0.name() == nodes.1.name()) {
                (true, _) => 64,
                (false, true) => 63,
                (false, false) => 62,
            };
            Some(Expectation::reachable().ttl(ttl).ttl_back(ttl))
        })
        .prove()
        .await?;
    Ok(())
}

/// How the packets of a ping between two pods are seen on the underlay interfaces of both nodes
/// and at both ports in the fabric: with how many outer headers.
pub(crate) async fn depths_on_the_wire(
    cluster: &Cluster,
    from: &Pod,
    to: &Pod,
) -> Result<Vec<usize>> {
    let pair = Filter::between(from.address(), to.address());
    let filter = pair.clone().or(Filter::inner(pair));
    let mut taps = Vec::new();
    for node in [from.node(), to.node()] {
        taps.push(node.capture(node.underlay(), &filter)?);
        let port = node.fabric_port();
        taps.push(cluster.fabric().capture(port, &filter)?);
    }
    let id = from.ping(to).await?.identifier;
    let of_the_ping = |captured: &Captured| {
        let message = captured.packet.icmp().map(|icmp| &icmp.message);
        matches!(message, Some(IcmpMessage::EchoRequest { id: i, .. }
            | IcmpMessage::EchoReply { id: i, .. }) if *i == id)
    };
    let mut depths = Vec::new();
    for tap in taps {
        let name = tap.name().to_owned();
        let mut packets = tap.stop().await?.packets;
        packets.retain(of_the_ping);
        anyhow::ensure!(packets.len() == 2, "{name} saw {} packets", packets.len());
        depths.extend(packets.iter().map(|captured| captured.packet.ipip_depth()));
    }
    Ok(depths)
}

/// The route of a node to exactly this destination.
pub(crate) async fn route(node: &Node, destination: &str) -> Result<Option<Route>> {
    let routes = node.routes().await?;
    let mut routes = routes.into_iter();
    Ok(routes.find(|route| route.destination.to_string() == destination))
}

/// Waits until the route of a node to exactly this destination is as wanted: `via GATEWAY dev
/// DEVICE`, `dev DEVICE`, `blackhole`, or `none`.
pub(crate) async fn route_is(node: &Node, destination: &str, wanted: &str) -> Result<()> {
    let what = format!("{}: {destination} {wanted}", node.name());
    soon(what, || async {
        let found = words(route(node, destination).await?.as_ref());
        anyhow::ensure!(found == wanted, "{found}");
        Ok(())
    })
    .await
}

fn words(route: Option<&Route>) -> String {
    let Some(route) = route else {
        return "none".to_owned();
    };
    match (&route.gateway, &route.interface) {
        (Some(gateway), Some(device)) => format!("via {gateway} dev {device}"),
        (None, Some(device)) => format!("dev {device}"),
        _ => format!("{:?}", route.kind).to_lowercase(),
    }
}

/// The addresses of a device, and whether the device is there at all.
pub(crate) async fn addresses(node: &Node, device: &str) -> Result<Option<Vec<String>>> {
    if !node.links().await?.iter().any(|link| link.name == device) {
        return Ok(None);
    }
    let addresses = node.addresses().await?.into_iter();
    let here = addresses.filter(|address| address.interface == device);
    Ok(Some(here.map(|a| a.address.to_string()).collect()))
}

/// Waits until `tunl0` is there with exactly these addresses.
pub(crate) async fn tunnel_has(node: &Node, wanted: &[&str]) -> Result<()> {
    let what = format!("{}: tunl0 has {wanted:?}", node.name());
    soon(what, || async {
        let found = addresses(node, "tunl0").await?;
        let found = found.ok_or_else(|| anyhow::anyhow!("there is no tunl0"))?;
        anyhow::ensure!(found == wanted, "{found:?}");
        Ok(())
    })
    .await
}
