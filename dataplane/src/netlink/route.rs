//! IPv4 routes over netlink.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link::error;
use super::socket::Answer;
use super::{Kernel, failed, name_of};
use crate::platform::{KernelError, Route, RouteKind, Routes};

impl Routes for Kernel {
    fn routes(&mut self) -> Result<Vec<Route>, KernelError> {
        let mut all = RouteMessage::default();
        all.header.address_family = AddressFamily::Inet;
        self.socket
            .dump(
                RouteNetlinkMessage::GetRoute(all),
                |message| match message {
                    RouteNetlinkMessage::NewRoute(route) => parse(&route),
                    _ => None,
                },
            )
            .map_err(|error| failed("list", "routes", error))
    }

    fn add_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        let answers = self.socket.requests(new(routes), NLM_F_CREATE | NLM_F_EXCL);
        collect("add route", answers, |i| object(&routes[i]))
    }

    fn replace_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        let answers = self
            .socket
            .requests(new(routes), NLM_F_CREATE | NLM_F_REPLACE);
        collect("replace route", answers, |i| object(&routes[i]))
    }

    fn remove_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        let messages = routes
            .iter()
            .map(removal)
            .map(RouteNetlinkMessage::DelRoute)
            .collect();
        let answers = self.socket.requests(messages, 0).map(unless_gone);
        collect("remove route", answers, |i| object(&routes[i]))
    }
}

fn new(routes: &[Route]) -> Vec<RouteNetlinkMessage> {
    let messages = routes.iter().map(build);
    messages.map(RouteNetlinkMessage::NewRoute).collect()
}

/// The refusals among the answers to many requests; `object` names the request at a position.
pub(super) fn collect(
    operation: &'static str,
    answers: io::Result<Vec<Answer>>,
    object: impl Fn(usize) -> String,
) -> Vec<KernelError> {
    match answers {
        Ok(answers) => answers
            .into_iter()
            .enumerate()
            .filter_map(|(i, answer)| Some(error(operation, object(i), answer.err()?)))
            .collect(),
        Err(source) => vec![failed(operation, "by netlink", source)],
    }
}

/// To remove what is not there has succeeded.
pub(super) fn unless_gone(answers: Vec<Answer>) -> Vec<Answer> {
    let gone = |error: &io::Error| {
        // Routes (and those of interfaces that are gone), neighbours, interfaces.
        matches!(
            error.raw_os_error(),
            Some(nix::libc::ESRCH | nix::libc::ENOENT | nix::libc::ENODEV)
        )
    };
    answers
        .into_iter()
        .map(|answer| match answer {
            Err((error, _)) if gone(&error) => Ok(()),
            other => other,
        })
        .collect()
}

fn object(route: &Route) -> String {
    let text = route.to_string();
    match route.interface {
        Some(index) => text.replace(&format!("dev #{index}"), &format!("dev {}", name_of(index))),
        None => text,
    }
}

fn builder(route: &Route) -> RouteMessageBuilder<Ipv4Addr> {
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.destination.addr(), route.destination.prefix_len())
        .table_id(route.table)
        .tos(route.tos)
        .protocol(RouteProtocol::from(route.protocol));
    if route.metric != 0 {
        builder = builder.priority(route.metric);
    }
    if let Some(gateway) = route.gateway {
        builder = builder.gateway(gateway);
    }
    if let Some(interface) = route.interface {
        builder = builder.output_interface(interface);
    }
    builder
}

pub(super) fn build(route: &Route) -> RouteMessage {
    let mut builder = builder(route);
    builder = builder.kind(match route.kind {
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unicast | RouteKind::Other => RouteType::Unicast,
    });
    builder = builder.scope(if route.link_scope {
        RouteScope::Link
    } else {
        RouteScope::Universe
    });
    if route.onlink {
        builder = builder.onlink();
    }
    let mut message = builder.build();
    if let Some(mtu) = route.mtu {
        message
            .attributes
            .push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    message
}

/// Names the route well enough to remove exactly it; kind and scope are left open.
fn removal(route: &Route) -> RouteMessage {
    builder(route)
        .kind(RouteType::Unspec)
        .scope(RouteScope::NoWhere)
        .build()
}

/// `None` for what is not ours to look at: routes of other families and those that the kernel
/// keeps for its own addresses.
pub(super) fn parse(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let kind = match header.kind {
        _ if header.address_family != AddressFamily::Inet => return None,
        _ if header.flags.contains(RouteFlags::Cloned) => return None,
        RouteType::Local | RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => {
            return None;
        }
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        _ => RouteKind::Other,
    };
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut route = Route {
        destination: Ipv4Net::default(),
        table: header.table.into(),
        metric: 0,
        tos: header.tos,
        protocol: header.protocol.into(),
        kind,
        link_scope: header.scope == RouteScope::Link,
        gateway: None,
        interface: None,
        onlink: header.flags.contains(RouteFlags::Onlink),
        mtu: None,
        extras: !matches!(header.scope, RouteScope::Link | RouteScope::Universe),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateway = Some(*address),
            RouteAttribute::Oif(index) => route.interface = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Metrics(metrics) => match metrics[..] {
                [RouteMetric::Mtu(mtu)] => route.mtu = Some(mtu),
                _ => route.extras = true,
            },
            // Says nothing about where packets go.
            RouteAttribute::CacheInfo(_) => {}
            _ => route.extras = true,
        }
    }
    route.destination = Ipv4Net::new(destination, header.destination_prefix_length).ok()?;
    Some(route)
}
