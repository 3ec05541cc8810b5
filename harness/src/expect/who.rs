//! Ends of a packet: by handle, by address, by port.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::cluster::{Node, Pod};

/// Who sends or receives a packet: a pod or a node by its handle, an address, a network, one of
/// several, or [`ANYBODY`]; each also with a port, as `(&pod, 8080)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    pub(super) addresses: Addresses,
    pub(super) port: Option<u16>,
}

/// Whoever it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anybody;

/// Whoever it may be.
pub const ANYBODY: Anybody = Anybody;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Addresses {
    #[default]
    Any,
    OneOf(Vec<Named>),
    Network(Ipv4Net),
}

/// An address and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) address: Ipv4Addr,
    pub(super) name: Option<String>,
}

impl Who {
    fn one_of(all: impl IntoIterator<Item = Named>) -> Self {
        Self {
            addresses: Addresses::OneOf(all.into_iter().collect()),
            port: None,
        }
    }
}

impl Addresses {
    pub(super) fn contain(&self, address: Ipv4Addr) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(all) => all.iter().any(|one| one.address == address),
            Self::Network(network) => network.contains(&address),
        }
    }

    /// The one that it is, if it is one.
    pub(super) fn single(&self) -> Option<String> {
        match self {
            Self::OneOf(all) => match &all[..] {
                [one] => Some(one.name.clone().unwrap_or_else(|| one.address.to_string())),
                _ => None,
            },
            Self::Any | Self::Network(_) => None,
        }
    }
}

impl From<Anybody> for Who {
    fn from(_: Anybody) -> Self {
        Self::default()
    }
}

impl From<Ipv4Addr> for Who {
    fn from(address: Ipv4Addr) -> Self {
        Self::one_of([Named {
            address,
            name: None,
        }])
    }
}

impl From<Ipv4Net> for Who {
    fn from(network: Ipv4Net) -> Self {
        Self {
            addresses: Addresses::Network(network),
            port: None,
        }
    }
}

impl From<&Pod> for Named {
    fn from(pod: &Pod) -> Self {
        Self {
            address: pod.address(),
            name: Some(pod.name().to_owned()),
        }
    }
}

impl From<&Node> for Named {
    fn from(node: &Node) -> Self {
        Self {
            address: node.address(),
            name: Some(node.name().to_owned()),
        }
    }
}

/// By the address that it has now.
impl From<&Pod> for Who {
    fn from(pod: &Pod) -> Self {
        Self::one_of([pod.into()])
    }
}

/// By its address on the underlay.
impl From<&Node> for Who {
    fn from(node: &Node) -> Self {
        Self::one_of([node.into()])
    }
}

/// One of them.
impl From<&[Pod]> for Who {
    fn from(pods: &[Pod]) -> Self {
        Self::one_of(pods.iter().map(Named::from))
    }
}

/// One of them.
impl From<&Vec<Pod>> for Who {
    fn from(pods: &Vec<Pod>) -> Self {
        pods.as_slice().into()
    }
}

/// One of them.
impl From<&[Node]> for Who {
    fn from(nodes: &[Node]) -> Self {
        Self::one_of(nodes.iter().map(Named::from))
    }
}

/// One of them.
impl From<&Vec<Node>> for Who {
    fn from(nodes: &Vec<Node>) -> Self {
        nodes.as_slice().into()
    }
}

/// One of them.
impl From<&[Ipv4Addr]> for Who {
    fn from(addresses: &[Ipv4Addr]) -> Self {
        Self::one_of(addresses.iter().map(|address| Named {
            address: *address,
            name: None,
        }))
    }
}

/// At this port.
impl<T: Into<Who>> From<(T, u16)> for Who {
    fn from((who, port): (T, u16)) -> Self {
        Self {
            port: Some(port),
            ..who.into()
        }
    }
}

/// By name where there is one: `test-tools`; without the port.
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anybody"),
            Self::Network(network) => write!(f, "{network}"),
            Self::OneOf(all) => {
                for (index, one) in all.iter().enumerate() {
                    let between = if index == 0 { "" } else { "|" };
                    match &one.name {
                        Some(name) => write!(f, "{between}{name}")?,
                        None => write!(f, "{between}{}", one.address)?,
                    }
                }
                Ok(())
            }
        }
    }
}

/// `192.168.1.12 (test-tools)`.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({name})", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}
