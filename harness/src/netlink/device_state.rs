//! What goes when a device goes down, kept so that it can be put back as it was.

use std::net::Ipv4Addr;

use futures_util::StreamExt;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteScope, RouteType,
};

use super::{Netlink, NetlinkError};

/// `RT_TABLE_LOCAL` of linux/rtnetlink.h: the kernel keeps it by itself.
const TABLE_LOCAL: u8 = 255;

/// The IPv4 addresses, routes and permanent neighbours of a device, in the kernel's own words.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceState {
    pub(crate) addresses: Vec<AddressMessage>,
    pub(crate) routes: Vec<RouteMessage>,
    pub(crate) neighbours: Vec<NeighbourMessage>,
}

impl Netlink {
    /// What would go with the device.
    pub(crate) async fn device_state(&self, device: &str) -> Result<DeviceState, NetlinkError> {
        let index = self.link_index(device).await?;
        let routes = self.route_messages().await?;
        let by = |route: &RouteMessage| {
            let mut attributes = route.attributes.iter();
            attributes.any(|a| matches!(a, RouteAttribute::Oif(oif) if *oif == index))
        };
        let neighbours = self.permanent_neighbours().await?;
        let addresses = self.address_messages().await?;
        Ok(DeviceState {
            addresses: addresses
                .into_iter()
                .filter(|address| address.header.index == index)
                .collect(),
            routes: routes.into_iter().filter(by).collect(),
            neighbours: neighbours
                .into_iter()
                .filter(|neighbour| neighbour.header.ifindex == index)
                .collect(),
        })
    }

    /// Puts back what is missing, and leaves alone what is there.
    pub(crate) async fn restore_device(&self, state: &DeviceState) -> Result<(), NetlinkError> {
        for address in &state.addresses {
            let message = RouteNetlinkMessage::NewAddress(address.clone());
            self.add_missing("restore", "an address", message).await?;
        }
        for neighbour in &state.neighbours {
            let message = RouteNetlinkMessage::NewNeighbour(neighbour.clone());
            self.add_missing("restore", "a neighbour", message).await?;
        }
        // A gateway is reachable by a route on the link only: the nearest come first.
        let mut routes: Vec<&RouteMessage> = state.routes.iter().collect();
        routes.sort_by_key(|route| std::cmp::Reverse(u8::from(route.header.scope)));
        for route in routes {
            let message = RouteNetlinkMessage::NewRoute(route.clone());
            self.add_missing("restore", "a route", message).await?;
        }
        Ok(())
    }

    /// The IPv4 routes of all tables but the kernel's own, as they can be added again.
    pub(crate) async fn route_messages(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let routes = self.route_dump().await?.into_iter().filter(|route| {
            route.header.table != TABLE_LOCAL && !route.header.flags.contains(RouteFlags::Cloned)
        });
        Ok(routes
            .map(|mut route| {
                // What the kernel says of a next hop (dead, without carrier) it does not take.
                route.header.flags &= RouteFlags::Onlink;
                let told = |a: &RouteAttribute| matches!(a, RouteAttribute::CacheInfo(_));
                route.attributes.retain(|attribute| !told(attribute));
                route
            })
            .collect())
    }

    /// Removes an address, with the routes that need it.
    pub(crate) async fn delete_address(&self, address: AddressMessage) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(address);
        self.request("delete", "an address", message, 0).await
    }

    /// Removes exactly this route.
    pub(crate) async fn delete_route(&self, route: RouteMessage) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(route);
        self.request("delete", "a route", message, 0).await
    }

    /// Adds a route, unless it is there.
    pub(crate) async fn add_missing_route(&self, route: RouteMessage) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route);
        self.add_missing("restore", "a route", message).await
    }

    /// Puts a route in the place of one with the same destination, type of service and priority.
    pub(crate) async fn put_route(&self, route: RouteMessage) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.request("replace", "a route", message, flags).await
    }

    /// Puts a neighbour in the place of one with the same address.
    pub(crate) async fn put_neighbour(
        &self,
        neighbour: NeighbourMessage,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewNeighbour(neighbour);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.request("replace", "a neighbour", message, flags).await
    }

    /// The IPv4 neighbours that somebody has set, proxy entries apart.
    pub(crate) async fn permanent_neighbours(&self) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        let messages = self.neighbour_dump().await?.into_iter();
        let set = messages
            .filter(|message| message.header.state == NeighbourState::Permanent)
            .filter(|message| !message.header.flags.contains(NeighbourFlags::Proxy));
        Ok(set.collect())
    }

    /// Sends a request to make something; what is there already is as good.
    pub(crate) async fn add_missing(
        &self,
        operation: &'static str,
        object: &str,
        message: RouteNetlinkMessage,
    ) -> Result<(), NetlinkError> {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match self.request(operation, object, message, flags).await {
            Err(error) if error.source.raw_os_error() == Some(nix::libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Sends a request for which the crate has no word, and waits until it is done.
    pub(crate) async fn request(
        &self,
        operation: &'static str,
        object: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let error = self.error(operation, object);
        let mut answers = match self.handle.clone().request(request) {
            Ok(answers) => answers,
            Err(failure) => return Err(error(failure)),
        };
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(message) = answer.payload
                && message.code.is_some()
            {
                return Err(error(rtnetlink::Error::NetlinkError(message)));
            }
        }
        // The connection keeps an acknowledgement for itself, and ends the answers with it.
        Ok(())
    }
}

/// A route in words: `192.168.2.0/24`.
pub(crate) fn destination(route: &RouteMessage) -> String {
    let attributes = &route.attributes;
    let address = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    format!("{address}/{}", route.header.destination_prefix_length)
}

/// The index of the device that a route leads to.
pub(crate) fn device_of(route: &RouteMessage) -> Option<u32> {
    let attributes = &route.attributes;
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// The same route, as one that swallows packets.
pub(crate) fn black_hole(route: &RouteMessage) -> RouteMessage {
    let mut hole = route.clone();
    hole.header.kind = RouteType::BlackHole;
    hole.header.scope = RouteScope::Universe;
    hole.header.flags = RouteFlags::empty();
    let stays = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Destination(_) | RouteAttribute::Priority(_) | RouteAttribute::Table(_)
        )
    };
    hole.attributes.retain(stays);
    hole
}

/// An address in words: `10.12.22.2/16`.
pub(crate) fn address_text(address: &AddressMessage) -> String {
    let attributes = &address.attributes;
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(local) => Some(local.to_string()),
        _ => None,
    });
    let prefix = address.header.prefix_len;
    format!("{}/{prefix}", local.unwrap_or_default())
}

/// A neighbour in words, `169.254.1.1`, and the same with another hardware address.
pub(crate) fn confuse(neighbour: &NeighbourMessage) -> Option<(String, NeighbourMessage)> {
    let mut wrong = neighbour.clone();
    let mut name = None;
    for attribute in &mut wrong.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                name = Some(address.to_string());
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                for byte in bytes.iter_mut().skip(1) {
                    *byte ^= 0x5a;
                }
            }
            _ => {}
        }
    }
    Some((name?, wrong))
}
