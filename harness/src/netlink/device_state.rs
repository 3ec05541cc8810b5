//! What goes when a device goes down, kept so that it can be put back as it was.

use std::net::Ipv4Addr;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError};

/// `RT_TABLE_LOCAL` of linux/rtnetlink.h: the kernel keeps it by itself.
const TABLE_LOCAL: u8 = 255;

/// The IPv4 routes and permanent neighbours of a device, in the kernel's own words.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceState {
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
        Ok(DeviceState {
            routes: routes.into_iter().filter(by).collect(),
            neighbours: neighbours
                .into_iter()
                .filter(|neighbour| neighbour.header.ifindex == index)
                .collect(),
        })
    }

    /// Puts back what is missing, and leaves alone what is there.
    pub(crate) async fn restore_device(&self, state: &DeviceState) -> Result<(), NetlinkError> {
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
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages: Vec<RouteMessage> = self
            .handle
            .route()
            .get(query)
            .execute()
            .try_collect()
            .await
            .map_err(self.error("list", "routes"))?;
        let routes = messages.into_iter().filter(|route| {
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

    /// The IPv4 neighbours that somebody has set, proxy entries apart.
    pub(crate) async fn permanent_neighbours(&self) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        let messages: Vec<NeighbourMessage> = self
            .handle
            .neighbours()
            .get()
            .set_address_family(AddressFamily::Inet)
            .execute()
            .try_collect()
            .await
            .map_err(self.error("list", "neighbours"))?;
        let set = messages
            .into_iter()
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
