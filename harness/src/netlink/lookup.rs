//! The kernel's own decision for one packet: `ip route get`.

use std::fmt;
use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType,
};

use super::{Netlink, NetlinkError, Route};

/// A packet whose way is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// Where it comes from; `None` for a packet that the machine itself is about to make.
    pub source: Option<Ipv4Addr>,
    /// The device it comes in by; `None` for a packet that the machine itself makes.
    pub incoming: Option<String>,
}

/// What the routing tables of a machine decide for a [`Flow`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteAnswer {
    /// It is sent on.
    Forward {
        /// The device it leaves by.
        device: String,
        /// The next hop; `None` when the destination is on the link.
        gateway: Option<Ipv4Addr>,
        /// The route that decided; `None` where the kernel does not say which.
        matched: Option<Box<Route>>,
    },
    /// It is for this machine.
    Local,
    /// It goes nowhere.
    Refused(Refusal),
}

/// Why a packet goes nowhere: the kernel's error number in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No route leads there, or one of kind `unreachable`; also what a machine says of a packet
    /// that came in where it does not forward.
    Unreachable,
    /// A route of kind `blackhole`, or a source address that cannot be (a martian).
    Invalid,
    /// A route of kind `prohibit`.
    Prohibited,
    /// The way back to the source does not lead through the device it came in by.
    ReversePath,
    /// Anything else, by its `errno`.
    Other(i32),
}

impl Netlink {
    /// What the routing tables decide for this packet: all rules and tables count.
    pub(crate) async fn route_for(&self, flow: &Flow) -> Result<RouteAnswer, NetlinkError> {
        let names = self.link_names().await?;
        let index = |name: &str| {
            let found = names.iter().find(|(_, known)| *known == name);
            found.map(|(index, _)| *index)
        };
        let mut question = RouteMessage::default();
        question.header.address_family = AddressFamily::Inet;
        question.header.destination_prefix_length = 32;
        let destination = RouteAddress::Inet(flow.destination);
        question.attributes = vec![RouteAttribute::Destination(destination)];
        if let Some(source) = flow.source {
            question.header.source_prefix_length = 32;
            let source = RouteAddress::Inet(source);
            question.attributes.push(RouteAttribute::Source(source));
        }
        if let Some(index) = flow.incoming.as_deref().and_then(index) {
            question.attributes.push(RouteAttribute::Iif(index));
        }
        let answer = match self.ask(question.clone()).await {
            Ok(answer) => answer,
            Err(error) => return self.refused(flow, error),
        };
        let Some(answer) = answer else {
            return Ok(RouteAnswer::Refused(Refusal::Unreachable));
        };
        match answer.header.kind {
            RouteType::Unicast => {}
            RouteType::Local | RouteType::Broadcast | RouteType::Multicast => {
                return Ok(RouteAnswer::Local);
            }
            RouteType::BlackHole => return Ok(RouteAnswer::Refused(Refusal::Invalid)),
            RouteType::Prohibit => return Ok(RouteAnswer::Refused(Refusal::Prohibited)),
            _ => return Ok(RouteAnswer::Refused(Refusal::Unreachable)),
        }
        let mut device = None;
        let mut gateway = None;
        for attribute in answer.attributes {
            match attribute {
                RouteAttribute::Oif(index) => device = names.get(&index).cloned(),
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(address),
                _ => {}
            }
        }
        // A second question, for the entry of the table. It may have changed in between, or the
        // kernel may not tell; the decision stands without it.
        question.header.flags |= RouteFlags::FibMatch;
        let matched = self.ask(question).await.ok().flatten();
        let matched = matched.and_then(|entry| Route::from_message(entry, &names));
        Ok(RouteAnswer::Forward {
            device: device.unwrap_or_default(),
            gateway,
            matched: matched.map(Box::new),
        })
    }

    async fn ask(&self, question: RouteMessage) -> Result<Option<RouteMessage>, rtnetlink::Error> {
        let mut answers = Box::pin(self.handle.route().get(question).execute());
        answers.try_next().await
    }

    fn refused(&self, flow: &Flow, error: rtnetlink::Error) -> Result<RouteAnswer, NetlinkError> {
        let error = self.error("look up the route to", flow.destination)(error);
        match error.source.raw_os_error().and_then(Refusal::from_errno) {
            Some(refusal) => Ok(RouteAnswer::Refused(refusal)),
            None => Err(error),
        }
    }
}

impl Refusal {
    /// `None` for errors that are about the question and not about the packet.
    fn from_errno(errno: i32) -> Option<Self> {
        match errno {
            nix::libc::ENETUNREACH | nix::libc::EHOSTUNREACH => Some(Self::Unreachable),
            nix::libc::EINVAL => Some(Self::Invalid),
            nix::libc::EACCES => Some(Self::Prohibited),
            nix::libc::EXDEV => Some(Self::ReversePath),
            nix::libc::EPERM | nix::libc::ENOBUFS | nix::libc::ENOMEM | nix::libc::ENODEV => None,
            other => Some(Self::Other(other)),
        }
    }
}

/// As `ip route get` would say it.
impl fmt::Display for RouteAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Forward {
                device,
                gateway,
                matched,
            } => {
                if let Some(route) = matched {
                    write!(f, "{} ", route.destination)?;
                }
                if let Some(gateway) = gateway {
                    write!(f, "via {gateway} ")?;
                }
                write!(f, "dev {device}")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("unreachable"),
            Self::Invalid => f.write_str("invalid argument (blackhole or martian source)"),
            Self::Prohibited => f.write_str("prohibited"),
            Self::ReversePath => f.write_str("refused by the reverse-path check"),
            Self::Other(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
        }
    }
}
