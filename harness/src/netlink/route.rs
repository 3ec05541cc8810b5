//! IPv4 routes: adding the few that a machine starts with, reading all of them back.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    self as kernel, RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage,
    RouteMetric,
};
use serde::Serialize;

use super::{Netlink, NetlinkError};

/// A route of the main table, as `ip route` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// What it leads to; `0.0.0.0/0` for the default route.
    pub destination: Ipv4Net,
    /// What happens to a packet that takes it.
    pub kind: RouteKind,
    /// The next hop; `None` when the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The device; `None` for a blackhole.
    pub interface: Option<String>,
    /// The source address that packets from this machine get.
    pub source: Option<Ipv4Addr>,
    /// Who wrote it.
    pub protocol: RouteProtocol,
    /// How far away the destination is.
    pub scope: RouteScope,
    /// The type of service that it is for; 0, the usual, is every one.
    pub tos: u8,
    /// The priority; lower wins.
    pub metric: u32,
    /// The MTU of the path in bytes, when the route sets one.
    pub mtu: Option<u32>,
    /// The next hop is taken to be on the link although no address says so.
    pub onlink: bool,
}

/// What happens to a packet that takes a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// It is sent on.
    Unicast,
    /// It is dropped without a word.
    Blackhole,
    /// It is dropped, and the sender hears "host unreachable".
    Unreachable,
    /// It is dropped, and the sender hears "administratively prohibited".
    Prohibit,
    /// Any other kind, by its number in `linux/rtnetlink.h`.
    Other(u8),
}

/// Who wrote a route: the kernel's `RTPROT_*` number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RouteProtocol(pub u8);

impl RouteProtocol {
    /// Made by the kernel when an address was added.
    pub const KERNEL: Self = Self(2);
    /// Made at boot; what `ip route add` uses.
    pub const BOOT: Self = Self(3);
    /// Made by the administrator.
    pub const STATIC: Self = Self(4);
    /// The number that Calico's Felix, and so our agent, marks its routes with.
    pub const CALICO: Self = Self(80);
}

/// How far away a destination is: the kernel's `RT_SCOPE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteScope {
    /// Behind a gateway.
    Universe,
    /// On the link.
    Link,
    /// This machine.
    Host,
    /// Any other, by its number.
    Other(u8),
}

/// A route that the harness adds to a machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRoute {
    pub(crate) destination: Ipv4Net,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) interface: u32,
}

impl Netlink {
    /// Adds a unicast route to the main table, in the place of one to the same destination.
    pub(crate) async fn replace_route(&self, route: NewRoute) -> Result<(), NetlinkError> {
        let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(route.destination.addr(), route.destination.prefix_len())
            .output_interface(route.interface)
            .protocol(kernel::RouteProtocol::Boot);
        builder = match route.gateway {
            Some(gateway) => builder.gateway(gateway),
            None => builder.scope(kernel::RouteScope::Link),
        };
        self.handle
            .route()
            .add(builder.build())
            .replace()
            .execute()
            .await
            .map_err(self.error("replace route", route.destination))
    }

    /// Removes the route of the main table to exactly this destination.
    pub(crate) async fn remove_route(&self, destination: Ipv4Net) -> Result<(), NetlinkError> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination.addr(), destination.prefix_len())
            .scope(kernel::RouteScope::NoWhere)
            .kind(kernel::RouteType::Unspec)
            .protocol(kernel::RouteProtocol::Unspec)
            .build();
        let request = self.handle.route().del(message).execute().await;
        request.map_err(self.error("remove route", destination))
    }

    /// The IPv4 routes of all tables, as the kernel tells them.
    pub(super) async fn route_dump(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        self.table("routes", |handle| handle.route().get(query).execute())
            .await
    }

    /// The IPv4 routes of the main table, ordered as the kernel's table lists them: by
    /// destination, and for one destination the longest prefix first.
    pub(crate) async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let names = self.link_names().await?;
        let mut routes: Vec<Route> = self
            .route_dump()
            .await?
            .into_iter()
            .filter(|message| message.header.table == RouteHeader::RT_TABLE_MAIN)
            .filter_map(|message| Route::from_message(message, &names))
            .collect();
        routes.sort_by_key(|route| {
            (
                route.destination.addr(),
                std::cmp::Reverse(route.destination.prefix_len()),
                route.metric,
            )
        });
        Ok(routes)
    }
}

impl Route {
    pub(super) fn from_message(
        message: RouteMessage,
        names: &BTreeMap<u32, String>,
    ) -> Option<Self> {
        let header = message.header;
        // What the kernel has learnt about one destination (a path MTU) is listed among the routes,
        // but it is nobody's route; `ip route` leaves it out as well.
        if header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let mut destination = Ipv4Addr::UNSPECIFIED;
        let mut gateway = None;
        let mut interface = None;
        let mut source = None;
        let mut metric = 0;
        let mut mtu = None;
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = address,
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(address),
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(address),
                RouteAttribute::Oif(index) => interface = names.get(&index).cloned(),
                RouteAttribute::Priority(priority) => metric = priority,
                RouteAttribute::Metrics(metrics) => {
                    mtu = metrics.into_iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Some(Self {
            destination: Ipv4Net::new(destination, header.destination_prefix_length).ok()?,
            kind: RouteKind::from_kernel(header.kind),
            gateway,
            interface,
            source,
            protocol: RouteProtocol(header.protocol.into()),
            scope: RouteScope::from_kernel(header.scope),
            tos: header.tos,
            metric,
            mtu,
            onlink: header.flags.contains(RouteFlags::Onlink),
        })
    }
}

impl RouteKind {
    fn from_kernel(kind: kernel::RouteType) -> Self {
        match kind {
            kernel::RouteType::Unicast => Self::Unicast,
            kernel::RouteType::BlackHole => Self::Blackhole,
            kernel::RouteType::Unreachable => Self::Unreachable,
            kernel::RouteType::Prohibit => Self::Prohibit,
            other => Self::Other(other.into()),
        }
    }
}

impl RouteScope {
    fn from_kernel(scope: kernel::RouteScope) -> Self {
        match scope {
            kernel::RouteScope::Universe => Self::Universe,
            kernel::RouteScope::Link => Self::Link,
            kernel::RouteScope::Host => Self::Host,
            other => Self::Other(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, a test that counts routes fails on kernels that have learnt a path MTU.
    #[test]
    fn what_the_kernel_has_learnt_of_a_path_is_no_route() {
        let address = Ipv4Addr::new(192, 168, 1, 9);
        let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .build();
        let route = Route::from_message(message.clone(), &BTreeMap::new());
        assert_eq!(
            route.map(|route| route.destination),
            Some(Ipv4Net::from(address))
        );
        message.header.flags |= RouteFlags::Cloned;
        assert_eq!(Route::from_message(message, &BTreeMap::new()), None);
    }
}
