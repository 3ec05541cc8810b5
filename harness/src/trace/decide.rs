//! Asks every machine on the way what it decides for the packet that it has.

use super::Trace;
pub(super) use super::hop::Decision;
use super::hop::Hop;
use super::topology::FABRIC;
use crate::capture::Direction;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::machine::Machine;
use crate::netlink::{Flow, RouteAnswer};

/// The machine of this name, if there is one.
pub(super) fn machine_named(cluster: &Cluster, name: &str) -> Option<Machine> {
    if name == FABRIC {
        return Some(cluster.fabric().clone());
    }
    let node = cluster.node(name).map(|node| Machine::clone(&node)).ok();
    node.or_else(|| cluster.pod(name).map(|pod| Machine::clone(&pod)).ok())
}

/// Fills in the decisions.
pub(super) async fn ask(cluster: &Cluster, trace: &mut Trace) -> Result<(), Error> {
    let ports: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|node| node.fabric_port())
        .collect();
    for leg in [&mut trace.there, &mut trace.back] {
        for place in 0..leg.len() {
            let Some(flow) = question(leg, place, &ports) else {
                continue;
            };
            let Some(machine) = machine_named(cluster, &leg[place].point.machine) else {
                continue;
            };
            leg[place].decision = decision(&machine, &flow).await?;
        }
    }
    Ok(())
}

/// What a machine decides; `None` when the packet is for itself.
pub(super) async fn decision(machine: &Machine, flow: &Flow) -> Result<Option<Decision>, Error> {
    let netlink = machine.live()?.netlink();
    let route = netlink.route_for(flow).await?;
    let neighbour = match &route {
        RouteAnswer::Local => return Ok(None),
        RouteAnswer::Refused(_) => None,
        RouteAnswer::Forward {
            device, gateway, ..
        } => {
            let next = gateway.unwrap_or(flow.destination);
            let known = netlink.neighbours().await?;
            let mut known = known.into_iter();
            known.find(|entry| entry.interface == *device && entry.address == next)
        }
    };
    Ok(Some(Decision { route, neighbour }))
}

/// What there is to decide at a hop: where it was made, where it came in to be sent on, and where
/// it was put into another packet.
fn question(leg: &[Hop], place: usize, ports: &[String]) -> Option<Flow> {
    let hop = leg.get(place)?;
    let header = hop.headers().next()?;
    let (destination, source) = (header.destination, header.source);
    let next = leg[place + 1..]
        .iter()
        .find(|next| next.point.machine == hop.point.machine);
    // What is put into another packet here is sent by the outer header.
    if let Some(outer) = next.filter(|next| next.depth() > hop.depth()) {
        return Some(Flow {
            destination: outer.headers().next()?.destination,
            source: None,
            incoming: None,
        });
    }
    let incoming = match hop.direction {
        // A port of a bridge hands on by hardware address, nobody asks for a flooded frame, and
        // what is taken out of another packet is asked for where it comes out.
        Direction::Incoming => {
            let is_port = hop.point.machine == FABRIC && ports.contains(&hop.point.device);
            let is_taken_out = next.is_some_and(|next| next.depth() < hop.depth());
            if !hop.addressed || is_port || is_taken_out {
                return None;
            }
            Some(hop.point.device.clone())
        }
        // Made here.
        Direction::Outgoing if place == 0 => None,
        Direction::Outgoing => return None,
    };
    Some(Flow {
        destination,
        source: Some(source),
        incoming,
    })
}
