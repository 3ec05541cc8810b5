//! The rules that choose a routing table, and the routes of all tables.

use std::fmt;
use std::net::IpAddr;

use ipnet::Ipv4Net;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use serde::Serialize;

use super::{Netlink, NetlinkError, Route};

/// An IPv4 rule of the policy database, as `ip rule` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The place in the order; the lowest is asked first.
    pub priority: u32,
    /// Which senders it is for; `None` is all.
    pub source: Option<Ipv4Net>,
    /// Which destinations it is for; `None` is all.
    pub destination: Option<Ipv4Net>,
    /// The device by which the packet came.
    pub incoming: Option<String>,
    /// The device to which the sender has bound its socket.
    pub outgoing: Option<String>,
    /// The packet's mark, and the bits of it that count.
    pub mark: Option<(u32, u32)>,
    /// Whether it is for all packets to which the rest does *not* apply.
    pub inverted: bool,
    /// What happens: `lookup`, `blackhole`, `unreachable`, `prohibit` or another of the kernel's.
    pub action: String,
    /// The table that is looked into; 255 is `local`, 254 `main`, 253 `default`.
    pub table: u32,
}

/// A route and the table that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableRoute {
    /// The table; 255 is `local`, 254 `main`.
    pub table: u32,
    /// The route.
    #[serde(flatten)]
    pub route: Route,
}

impl Netlink {
    /// The IPv4 rules, in the order in which the kernel asks them.
    pub(crate) async fn rules(&self) -> Result<Vec<Rule>, NetlinkError> {
        let ask = |handle: rtnetlink::Handle| handle.rule().get(rtnetlink::IpVersion::V4).execute();
        let messages: Vec<RuleMessage> = self.table("rules", ask).await?;
        let mut rules: Vec<Rule> = messages.into_iter().map(Rule::from_message).collect();
        rules.sort_by_key(|rule| rule.priority);
        Ok(rules)
    }

    /// The IPv4 routes of all tables: `local` last, `main` first, the others between.
    pub(crate) async fn all_routes(&self) -> Result<Vec<TableRoute>, NetlinkError> {
        let names = self.link_names().await?;
        let routes = self.route_dump().await?.into_iter().filter_map(|message| {
            Some(TableRoute {
                table: table(&message),
                route: Route::from_message(message, &names)?,
            })
        });
        let mut routes: Vec<TableRoute> = routes.collect();
        routes.sort_by_key(|TableRoute { table, route }| {
            let place = match table {
                254 => 0,
                255 => 2,
                _ => 1,
            };
            let prefix = std::cmp::Reverse(route.destination.prefix_len());
            (place, *table, route.destination.addr(), prefix)
        });
        Ok(routes)
    }
}

/// Numbers above 255 do not fit the header.
fn table(message: &RouteMessage) -> u32 {
    let attributes = message.attributes.iter();
    let mut tables = attributes.filter_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    tables.next().unwrap_or(message.header.table.into())
}

impl Rule {
    fn from_message(message: RuleMessage) -> Self {
        let header = message.header;
        let mut rule = Self {
            priority: 0,
            source: None,
            destination: None,
            incoming: None,
            outgoing: None,
            mark: None,
            inverted: header
                .flags
                .contains(rtnetlink::packet_route::rule::RuleFlags::Invert),
            action: match header.action {
                RuleAction::ToTable => "lookup".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            },
            table: header.table.into(),
        };
        let (mut mark, mut mask) = (None, u32::MAX);
        for attribute in message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = priority,
                RuleAttribute::Table(table) => rule.table = table,
                RuleAttribute::Source(IpAddr::V4(address)) => {
                    rule.source = Ipv4Net::new(address, header.src_len).ok();
                }
                RuleAttribute::Destination(IpAddr::V4(address)) => {
                    rule.destination = Ipv4Net::new(address, header.dst_len).ok();
                }
                RuleAttribute::Iifname(name) => rule.incoming = Some(name),
                RuleAttribute::Oifname(name) => rule.outgoing = Some(name),
                RuleAttribute::FwMark(value) => mark = Some(value),
                RuleAttribute::FwMask(value) => mask = value,
                _ => {}
            }
        }
        rule.mark = mark.map(|mark| (mark, mask));
        rule
    }
}

/// As `ip rule` shows it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.priority)?;
        if self.inverted {
            f.write_str("not ")?;
        }
        match self.source {
            Some(source) => write!(f, "from {source}")?,
            None => f.write_str("from all")?,
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        if let Some((mark, mask)) = self.mark {
            write!(f, " fwmark {mark:#x}/{mask:#x}")?;
        }
        if let Some(device) = &self.incoming {
            write!(f, " iif {device}")?;
        }
        if let Some(device) = &self.outgoing {
            write!(f, " oif {device}")?;
        }
        match self.action.as_str() {
            "lookup" => write!(f, " lookup {}", self.table),
            action => write!(f, " {action}"),
        }
    }
}
