//! The neighbour table: which hardware address answers for which IPv4 address.

use std::net::Ipv4Addr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    self, NeighbourAddress, NeighbourAttribute, NeighbourMessage,
};
use serde::Serialize;

use super::{MacAddress, Netlink, NetlinkError};

/// An entry of the IPv4 neighbour table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    /// The device's name.
    pub interface: String,
    /// The IPv4 address.
    pub address: Ipv4Addr,
    /// The hardware address; `None` while it is being asked for, or when nobody answered.
    pub mac: Option<MacAddress>,
    /// What the kernel thinks of the entry.
    pub state: NeighbourState,
}

/// The state of a neighbour entry, the kernel's `NUD_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NeighbourState {
    /// Set by somebody and kept: `NUD_PERMANENT`.
    Permanent,
    /// Confirmed a short while ago.
    Reachable,
    /// Not confirmed lately, still used (`STALE`, `DELAY` and `PROBE`).
    Stale,
    /// Being asked for.
    Incomplete,
    /// Nobody answered.
    Failed,
    /// Anything else, such as `NUD_NOARP`.
    Other,
}

impl Netlink {
    /// The IPv4 neighbour entries of all devices, as the kernel tells them.
    pub(super) async fn neighbour_dump(&self) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        let ask = |handle: rtnetlink::Handle| {
            let entries = handle.neighbours().get();
            entries.set_address_family(AddressFamily::Inet).execute()
        };
        self.table("neighbours", ask).await
    }

    /// All IPv4 neighbour entries apart from those of devices that need none (`NUD_NOARP`).
    pub(crate) async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let names = self.link_names().await?;
        let messages = self.neighbour_dump().await?;
        let neighbours = messages.into_iter().filter_map(|message| {
            if message.header.state == neighbour::NeighbourState::Noarp {
                return None;
            }
            let mut address = None;
            let mut mac = None;
            for attribute in message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(inet)) => {
                        address = Some(inet);
                    }
                    NeighbourAttribute::LinkLayerAddress(bytes) => {
                        mac = MacAddress::from_bytes(&bytes);
                    }
                    _ => {}
                }
            }
            Some(Neighbour {
                interface: names.get(&message.header.ifindex)?.clone(),
                address: address?,
                mac,
                state: NeighbourState::from_kernel(message.header.state),
            })
        });
        Ok(neighbours.collect())
    }
}

impl NeighbourState {
    fn from_kernel(state: neighbour::NeighbourState) -> Self {
        match state {
            neighbour::NeighbourState::Permanent => Self::Permanent,
            neighbour::NeighbourState::Reachable => Self::Reachable,
            neighbour::NeighbourState::Stale
            | neighbour::NeighbourState::Delay
            | neighbour::NeighbourState::Probe => Self::Stale,
            neighbour::NeighbourState::Incomplete => Self::Incomplete,
            neighbour::NeighbourState::Failed => Self::Failed,
            _ => Self::Other,
        }
    }
}
