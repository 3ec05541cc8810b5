//! One thing that a vandal does, and how it is mended.

use std::fmt;
use std::time::Duration;

use crate::cluster::Node;
use crate::error::Error;
use crate::eventually::eventually;
use crate::fault::FaultError;
use crate::netlink::{
    AddressMessage, DeviceState, NeighbourMessage, NetlinkError, RouteMessage, address_text,
    black_hole, destination,
};
use crate::process::Program;

/// How long an agent may take to make again what only it can make.
const AGENT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(super) enum Act {
    DeleteRoute(RouteMessage),
    BendRoute(RouteMessage),
    /// An address of a device, and what goes with it.
    DeleteAddress {
        device: String,
        address: AddressMessage,
        state: DeviceState,
    },
    TakeDown {
        device: String,
        state: DeviceState,
    },
    /// Of a device that the agent makes.
    DeleteDevice {
        device: String,
    },
    Narrow {
        device: String,
        mtu: u32,
    },
    ConfuseNeighbour {
        address: String,
        right: NeighbourMessage,
        wrong: NeighbourMessage,
    },
    TurnSysctl {
        name: String,
        value: String,
    },
    /// A table, and the script that makes it again.
    DeleteTable {
        family: String,
        table: String,
        script: String,
    },
    /// The tc programs of a device that the agent has put there.
    DeletePrograms {
        device: String,
    },
}

impl Act {
    /// Does it.
    pub(super) async fn commit(&self, node: &Node) -> Result<(), Error> {
        let netlink = node.live()?.netlink();
        match self {
            Self::DeleteRoute(route) => netlink.delete_route(route.clone()).await?,
            Self::BendRoute(route) => netlink.put_route(black_hole(route)).await?,
            Self::DeleteAddress { address, .. } => netlink.delete_address(address.clone()).await?,
            Self::TakeDown { device, .. } => netlink.set_link_up(device, false).await?,
            Self::DeleteDevice { device } => netlink.remove_link(device).await?,
            Self::Narrow { device, .. } => netlink.set_link_mtu(device, 576).await?,
            Self::ConfuseNeighbour { wrong, .. } => netlink.put_neighbour(wrong.clone()).await?,
            Self::TurnSysctl { name, value } => node.set_parameter(name, turned(value))?,
            Self::DeleteTable { family, table, .. } => {
                let delete = ["delete", "table", family, table];
                run(node, Program::new("nft").args(delete)).await?;
            }
            Self::DeletePrograms { device } => netlink.remove_clsact(device).await?,
        }
        Ok(())
    }

    /// Undoes it, as far as nobody has done so before.
    pub(super) async fn mend(&self, node: &Node) -> Result<(), Error> {
        let netlink = node.live()?.netlink();
        let there = async |device: &str| -> Result<bool, Error> {
            let links = node.links().await?;
            Ok(links.iter().any(|link| link.name == device))
        };
        match self {
            Self::DeleteRoute(route) => netlink.add_missing_route(route.clone()).await?,
            Self::BendRoute(route) => {
                netlink
                    .delete_route(black_hole(route))
                    .await
                    .or_else(gone)?;
                netlink.add_missing_route(route.clone()).await?;
            }
            Self::DeleteAddress { device, state, .. } => {
                if there(device).await? {
                    netlink.restore_device(state).await?;
                }
            }
            Self::TakeDown { device, state } => {
                if there(device).await? {
                    netlink.set_link_up(device, true).await?;
                    netlink.restore_device(state).await?;
                }
            }
            Self::Narrow { device, mtu } => {
                if there(device).await? {
                    netlink.set_link_mtu(device, *mtu).await?;
                }
            }
            Self::ConfuseNeighbour { right, .. } => netlink.put_neighbour(right.clone()).await?,
            Self::TurnSysctl { name, value } => {
                let now = node.parameters(vec![name.clone()])?;
                if now.get(name).is_some_and(|now| now != value) {
                    node.set_parameter(name, value)?;
                }
            }
            Self::DeleteTable {
                family,
                table,
                script,
            } => {
                if node.is_agent_running() {
                    return Ok(());
                }
                let list = Program::new("nft").args(["list", "table", family, table]);
                if !node.exec(list).await?.status.success() {
                    run(node, Program::new("nft").arg(script)).await?;
                }
            }
            // The agent hears of it and makes them again.
            Self::DeleteDevice { .. } | Self::DeletePrograms { .. } => {}
        }
        Ok(())
    }

    /// Waits for what only an agent can mend.
    pub(super) async fn is_mended(&self, node: &Node) -> Result<(), Error> {
        let Self::DeleteDevice { device } = self else {
            return Ok(());
        };
        let what = format!("the agent on {} has made {device} again", node.name());
        let made = eventually(what, AGENT, || async {
            match node.links().await {
                Ok(links) if links.iter().any(|link| link.name == *device) => Ok(()),
                Ok(_) => Err("not yet".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
        Ok(made.await.map_err(FaultError::from)?)
    }
}

/// What is gone already needs no deletion.
fn gone(error: NetlinkError) -> Result<(), NetlinkError> {
    match error.source.raw_os_error() {
        Some(nix::libc::ESRCH) => Ok(()),
        _ => Err(error),
    }
}

/// The other value of a switch; of one that has more values another.
fn turned(value: &str) -> &'static str {
    match value {
        "0" => "1",
        _ => "0",
    }
}

async fn run(node: &Node, program: Program) -> Result<(), Error> {
    node.exec(program).await?.success()?;
    Ok(())
}

/// `deleted route 192.168.2.0/24`.
impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteRoute(route) => write!(f, "deleted route {}", destination(route)),
            Self::BendRoute(route) => {
                write!(f, "made route {} a black hole", destination(route))
            }
            Self::DeleteAddress {
                device, address, ..
            } => {
                let address = address_text(address);
                write!(f, "deleted address {address} of {device}")
            }
            Self::TakeDown { device, .. } => write!(f, "took {device} down"),
            Self::DeleteDevice { device } => write!(f, "deleted {device}"),
            Self::Narrow { device, mtu } => {
                write!(f, "narrowed {device} from {mtu} to 576 bytes")
            }
            Self::ConfuseNeighbour { address, .. } => {
                write!(f, "gave neighbour {address} a wrong hardware address")
            }
            Self::TurnSysctl { name, value } => {
                let now = turned(value);
                write!(f, "turned net/ipv4/{name} from {value} to {now}")
            }
            Self::DeleteTable { family, table, .. } => {
                write!(f, "deleted nftables table {family} {table}")
            }
            Self::DeletePrograms { device } => write!(f, "removed the tc programs of {device}"),
        }
    }
}
