//! Permanent neighbours over netlink.

use std::net::Ipv4Addr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::route::{collect, unless_gone};
use super::{Kernel, failed, name_of};
use crate::mac::Mac;
use crate::platform::{KernelError, Neighbour, Neighbours};

impl Neighbours for Kernel {
    fn neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError> {
        let mut all = NeighbourMessage::default();
        all.header.family = AddressFamily::Inet;
        self.socket
            .dump(
                RouteNetlinkMessage::GetNeighbour(all),
                |message| match message {
                    RouteNetlinkMessage::NewNeighbour(neighbour)
                        if neighbour.header.state == NeighbourState::Permanent =>
                    {
                        parse(&neighbour)
                    }
                    _ => None,
                },
            )
            .map_err(|error| failed("list", "neighbours", error))
    }

    fn replace_neighbours(&mut self, neighbours: &[Neighbour]) -> Vec<KernelError> {
        let messages = neighbours
            .iter()
            .map(build)
            .map(RouteNetlinkMessage::NewNeighbour)
            .collect();
        let answers = self.socket.requests(messages, NLM_F_CREATE | NLM_F_REPLACE);
        collect("replace neighbour", answers, |i| object(&neighbours[i]))
    }

    fn remove_neighbours(&mut self, neighbours: &[Neighbour]) -> Vec<KernelError> {
        let messages = neighbours
            .iter()
            .map(build)
            .map(RouteNetlinkMessage::DelNeighbour)
            .collect();
        let answers = self.socket.requests(messages, 0).map(unless_gone);
        collect("remove neighbour", answers, |i| object(&neighbours[i]))
    }
}

fn object(neighbour: &Neighbour) -> String {
    let Neighbour {
        interface,
        address,
        mac,
    } = neighbour;
    format!("{address} lladdr {mac} dev {}", name_of(*interface))
}

fn build(neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = neighbour.interface;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unspec;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(neighbour.address)),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()),
    ];
    message
}

fn parse(message: &NeighbourMessage) -> Option<Neighbour> {
    Some(Neighbour {
        interface: message.header.ifindex,
        address: address(message)?,
        mac: mac(message)?,
    })
}

fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => Mac::from_slice(bytes),
            _ => None,
        })
}

/// The link-layer address of a neighbour that the kernel would send to without asking first.
pub(super) fn usable(message: &NeighbourMessage) -> Option<Mac> {
    // Not those that are being asked for, did not answer, or need no address at all.
    let known = matches!(
        message.header.state,
        NeighbourState::Permanent
            | NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
    );
    mac(message).filter(|_| known)
}

/// `None` for neighbours of other families.
pub(super) fn address(message: &NeighbourMessage) -> Option<Ipv4Addr> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
            _ => None,
        })
}
