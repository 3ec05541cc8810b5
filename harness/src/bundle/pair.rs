//! Asks the question on which a test failed once more, and traces it.

use std::net::Ipv4Addr;

use super::Item;
use super::culprit::{Culprit, Target};
use super::model::{Header, HopState, PairState, TraceState};
use super::{again, diagnosis};
use crate::capture::{Direction, Recording};
use crate::cluster::{Cluster, Node};
use crate::machine::Machine;
use crate::packet::Packet;
use crate::trace::{Endpoint, Hop, Outcome, Trace, Verdict};

/// Traces the pair; what was captured is for the file of packets. `None` when the one who asked is
/// not there any more, or nobody knows whom it asked.
pub(super) async fn trace(
    cluster: &Cluster,
    culprit: Culprit,
) -> Option<(PairState, Vec<Recording>)> {
    let from = match culprit.from.parse::<Ipv4Addr>() {
        Ok(address) => owner(cluster, address)?,
        Err(_) => culprit.from.clone(),
    };
    let (to, address) = match &culprit.to {
        Target::Address(address) => (owner(cluster, *address), *address),
        Target::Name(name) => (Some(name.clone()), address_of(cluster, name)?),
    };
    let sender = endpoint(cluster, &from)?;
    let target = match &to {
        // An address of a node that is not its own, such as its tunnel's, stays what it is.
        Some(name) if address_of(cluster, name) == Some(address) => endpoint(cluster, name)?,
        _ => Endpoint::from(address),
    };
    let question = again::Question {
        cluster,
        from: sender,
        device: device(cluster, &from),
        to: target,
        how: culprit.how,
    };
    let traced = Item::collect_within(again::LIMIT, question.ask()).await;
    let way = way(cluster, &from, to.as_deref());
    let (trace, recordings) = match traced {
        Item::Value((trace, asked)) => (
            Item::Value(state(&trace, &way, asked)),
            trace.recordings().to_vec(),
        ),
        Item::Error(error) => (Item::Error(error), Vec::new()),
    };
    let pair = PairState {
        from,
        to: to.unwrap_or_else(|| address.to_string()),
        address,
        failure: culprit.failure,
        trace,
    };
    Some((pair, recordings))
}

fn state(trace: &Trace, way: &[String], asked: usize) -> TraceState {
    let hops = trace.there.iter().chain(&trace.back);
    let mut hops: Vec<HopState> = hops.map(hop).collect();
    // Both directions in one order; on the way back time alone decides.
    hops.sort_by_key(|hop| hop.at_ns);
    let lossy = trace.lossy_taps().iter();
    TraceState {
        arrived: trace.is_delivered(),
        verdict: trace.verdict().to_string(),
        outcome: outcome(&trace.outcome),
        diagnosis: diagnosis::of(trace, asked),
        machine: trace.diagnosis().map(|found| found.machine.clone()),
        notes: trace
            .diagnosis()
            .map(|found| found.notes.clone())
            .unwrap_or_default(),
        lossy_taps: lossy.map(|(tap, lost)| (tap.to_string(), *lost)).collect(),
        wrong: match trace.verdict() {
            Verdict::Delivered => None,
            Verdict::Lost(leg) | Verdict::Anomalous(leg) => Some(leg),
        },
        stretch: trace.stretch().cloned(),
        taps: diagnosis::lanes(way, &hops, trace.stretch()),
        hops,
        text: trace.to_string(),
    }
}

fn hop(hop: &Hop) -> HopState {
    let headers = hop.headers().map(|ip| Header {
        source: ip.source,
        destination: ip.destination,
        ttl: ip.ttl,
    });
    HopState {
        at_ns: u64::try_from(hop.after.as_nanos()).unwrap_or(u64::MAX),
        tap: hop.point.to_string(),
        direction: match hop.direction {
            Direction::Incoming => "in",
            Direction::Outgoing => "out",
        },
        leg: hop.leg,
        is_error: hop.is_error,
        addressed: hop.addressed,
        headers: headers.collect(),
        length: hop.length(),
        text: hop
            .stack
            .iter()
            .map(Packet::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        decision: hop.decision.as_ref().map(ToString::to_string),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered => "it was answered".to_owned(),
        Outcome::NotSent { errno } => {
            let error = std::io::Error::from_raw_os_error(*errno);
            format!("its own kernel did not send it: {error}")
        }
        Outcome::Reported { from, message } => format!("{from} answered {message:?}"),
        Outcome::Silence => "nothing came back".to_owned(),
    }
}

/// Every device that a packet from the one to the other may pass, in this order.
fn way(cluster: &Cluster, from: &str, to: Option<&str>) -> Vec<String> {
    let start = node_of(cluster, from);
    let end = to.and_then(|to| node_of(cluster, to));
    let is_local = match (&start, &end) {
        (Some(start), Some(end)) => start.name() == end.name(),
        _ => false,
    };
    let mut way = own_side(cluster, from, !is_local);
    if !is_local {
        let ports = [&start, &end].into_iter().flatten();
        way.extend(ports.map(|node| format!("fabric/{}", node.fabric_port())));
    }
    let mut there = to.map_or_else(Vec::new, |to| own_side(cluster, to, !is_local));
    there.reverse();
    way.extend(there);
    way
}

fn own_side(cluster: &Cluster, name: &str, leaves: bool) -> Vec<String> {
    let mut way = Vec::new();
    let node = match cluster.pod(name) {
        Ok(pod) => {
            way.push(format!("{name}/eth0"));
            way.push(format!("{}/{}", pod.node().name(), pod.host_interface()));
            Some(pod.node())
        }
        Err(_) => cluster.node(name).ok(),
    };
    if let (Some(node), true) = (node, leaves) {
        way.push(format!("{}/{}", node.name(), cluster.tunnel_device()));
        way.push(format!("{}/{}", node.name(), node.underlay()));
    }
    way
}

fn node_of(cluster: &Cluster, name: &str) -> Option<Node> {
    match cluster.pod(name) {
        Ok(pod) => Some(pod.node()),
        Err(_) => cluster.node(name).ok(),
    }
}

fn endpoint(cluster: &Cluster, name: &str) -> Option<Endpoint> {
    let pod = cluster.pod(name).ok().map(|pod| Endpoint::from(&pod));
    pod.or_else(|| cluster.node(name).ok().map(|node| Endpoint::from(&node)))
}

/// Through which device a machine sends to others.
fn device(cluster: &Cluster, name: &str) -> Option<(Machine, String)> {
    let (machine, wire) = match cluster.pod(name) {
        Ok(pod) => (Machine::clone(&pod), pod.wire()),
        Err(_) => {
            let node = cluster.node(name).ok()?;
            (Machine::clone(&node), node.wire())
        }
    };
    Some((machine, wire.ok()?.device().to_owned()))
}

fn address_of(cluster: &Cluster, name: &str) -> Option<Ipv4Addr> {
    let pod = cluster.pod(name).ok().map(|pod| pod.address());
    pod.or_else(|| cluster.node(name).ok().map(|node| node.address()))
}

fn owner(cluster: &Cluster, address: Ipv4Addr) -> Option<String> {
    let pods = cluster.pods().into_iter();
    let mut pods = pods.filter(|pod| pod.address() == address);
    let nodes = cluster.nodes().into_iter();
    let mut nodes =
        nodes.filter(|node| node.address() == address || node.tunnel_address() == Some(address));
    let pod = pods.next().map(|pod| pod.name().to_owned());
    pod.or_else(|| nodes.next().map(|node| node.name().to_owned()))
}
