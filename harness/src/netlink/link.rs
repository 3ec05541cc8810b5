//! Links: making veth pairs and bridges, bringing them up, reading them back.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{
    InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use serde::Serialize;

use super::{IpTunnel, MacAddress, Netlink, NetlinkError};
use crate::eventually::eventually;

/// How long the kernel may take to notice that both ends of a pair are up.
const CARRIER: Duration = Duration::from_secs(5);

/// A network device as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The interface index.
    pub index: u32,
    /// The name, such as `ens192`.
    pub name: String,
    /// The kernel's name of the kind: `veth`, `bridge`, `ipip`; `None` for `lo`.
    pub kind: Option<String>,
    /// The hardware address; `None` for devices without a link layer.
    pub mac: Option<MacAddress>,
    /// The MTU in bytes.
    pub mtu: u32,
    /// Whether the administrator switched it on (`IFF_UP`).
    pub up: bool,
    /// Whether it can carry packets now (operational state up, or unknown as for `lo`).
    pub running: bool,
    /// Whether it resolves neighbours (`IFF_NOARP` is not set).
    pub arp: bool,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// What it puts into outer headers, if it is an IPv4 tunnel.
    pub tunnel: Option<IpTunnel>,
}

/// The near end of a new veth pair.
#[derive(Debug, Clone)]
pub(crate) struct VethEnd<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u32,
    /// The index of the bridge to join.
    pub(crate) master: Option<u32>,
}

/// The far end, born in another network namespace.
#[derive(Debug, Clone)]
pub(crate) struct VethPeer<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u32,
    /// The descriptor of the namespace.
    pub(crate) namespace: RawFd,
}

impl Netlink {
    /// Makes a veth pair in one request. The near end comes up; the far end cannot in the same
    /// request (the kernel answers ENOTCONN) and is left down.
    ///
    /// With one queue for each direction, which is what a pair uses in any case. Else the kernel makes
    /// one for each processor, and to put the others out of use it waits, for each end, until no
    /// processor can be using them; all the while nobody else can change or list a device or a route
    /// anywhere on the machine.
    pub(crate) async fn add_veth(
        &self,
        end: VethEnd<'_>,
        peer: VethPeer<'_>,
    ) -> Result<(), NetlinkError> {
        let peer_message = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer.name.to_owned())
            .address(peer.mac.0.to_vec())
            .mtu(peer.mtu)
            .setns_by_fd(peer.namespace)
            .append_extra_attribute(LinkAttribute::NumTxQueues(1))
            .append_extra_attribute(LinkAttribute::NumRxQueues(1))
            .build();
        let mut message = LinkVeth::new(end.name, peer.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_message)))
            .address(end.mac.0.to_vec())
            .mtu(end.mtu)
            .append_extra_attribute(LinkAttribute::NumTxQueues(1))
            .append_extra_attribute(LinkAttribute::NumRxQueues(1))
            .up();
        if let Some(master) = end.master {
            message = message.controller(master);
        }
        self.handle
            .link()
            .add(message.build())
            .execute()
            .await
            .map_err(self.error("add veth pair", format_args!("{}/{}", end.name, peer.name)))
    }

    /// Makes a bridge that is up and sends nothing of its own: no spanning tree, no multicast
    /// queries.
    pub(crate) async fn add_bridge(&self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkBridge::new(name)
            .stp_state(rtnetlink::packet_route::link::BridgeStpState::Disabled)
            .mcast_snooping(false)
            .mtu(mtu)
            .up()
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(self.error("add bridge", name))
    }

    /// Brings a device up or down.
    pub(crate) async fn set_link_up(&self, name: &str, up: bool) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_name(name);
        let (message, operation) = match up {
            true => (message.up(), "bring up"),
            false => (message.down(), "bring down"),
        };
        self.set_link(operation, name, message).await
    }

    /// Returns when a device that is up can carry packets. Of a veth pair the end that came up
    /// first cannot yet when the other has come up: it drops what it is given until the kernel's
    /// own background work has noticed the carrier.
    pub(crate) async fn await_carrier(&self, name: &str) -> Result<(), NetlinkError> {
        let failed = |source| NetlinkError::io("await the carrier of", name, source);
        // Since Linux 6.8 the question itself makes the kernel do that work first
        // (`linkwatch_sync_dev` in rtnl_getlink); before, it does it within a second.
        let carries = || async {
            let link = self.link_message(name).await.map_err(|e| e.to_string())?;
            match link.header.flags.contains(LinkFlags::Running) {
                true => Ok(()),
                false => Err("it has none".to_owned()),
            }
        };
        eventually(format!("{name} has a carrier"), CARRIER, carries)
            .await
            .map_err(|error| failed(std::io::Error::other(error)))
    }

    /// Sets the MTU of a device.
    pub(crate) async fn set_link_mtu(&self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_name(name).mtu(mtu);
        self.set_link("set the MTU of", name, message).await
    }

    /// Makes a device a port of the bridge with the index `master`.
    pub(crate) async fn set_link_master(
        &self,
        name: &str,
        master: u32,
    ) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_name(name).controller(master);
        self.set_link("plug in", name, message).await
    }

    /// Sets the hardware address of a device.
    pub(crate) async fn set_link_mac(
        &self,
        name: &str,
        mac: MacAddress,
    ) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_name(name).address(mac.0.to_vec());
        self.set_link("set the MAC of", name, message).await
    }

    async fn set_link(
        &self,
        operation: &'static str,
        name: &str,
        message: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), NetlinkError> {
        self.handle
            .link()
            .set(message.build())
            .execute()
            .await
            .map_err(self.error(operation, name))
    }

    /// Removes a device, and with one end of a veth pair the other. One that is not there is
    /// as good.
    pub(crate) async fn remove_link(&self, name: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_name(name).build();
        let removed = self.handle.link().del_with_message(message).execute().await;
        match removed.map_err(self.error("remove device", name)) {
            Err(error) if error.source.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// The index of the device `name`.
    pub(crate) async fn link_index(&self, name: &str) -> Result<u32, NetlinkError> {
        Ok(self.link_message(name).await?.header.index)
    }

    async fn link_message(&self, name: &str) -> Result<LinkMessage, NetlinkError> {
        let message = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await
            .map_err(self.error("look up device", name))?;
        message.ok_or_else(|| {
            NetlinkError::io("look up device", name, std::io::ErrorKind::NotFound.into())
        })
    }

    /// All devices, in the order of their indices.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links = self.link_dump("links").await?;
        let mut links: Vec<Link> = links.into_iter().map(Link::from_message).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// All devices, as the kernel tells them; `what` is wanted of them.
    pub(super) async fn link_dump(
        &self,
        what: &'static str,
    ) -> Result<Vec<LinkMessage>, NetlinkError> {
        self.table(what, |handle| handle.link().get().execute())
            .await
    }

    /// Device names by index: every other table of the kernel speaks in indices.
    pub(super) async fn link_names(&self) -> Result<BTreeMap<u32, String>, NetlinkError> {
        let links = self.links().await?;
        Ok(links
            .into_iter()
            .map(|link| (link.index, link.name))
            .collect())
    }
}

impl Link {
    fn from_message(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: None,
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up),
            arp: !flags.contains(LinkFlags::Noarp),
            master: None,
            tunnel: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(bytes) => link.mac = MacAddress::from_bytes(&bytes),
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::OperState(state) => {
                    link.running = link.up && matches!(state, State::Up | State::Unknown);
                }
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                            LinkInfo::Data(data) => link.tunnel = IpTunnel::from_data(&data),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}
