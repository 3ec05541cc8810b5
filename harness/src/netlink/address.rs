//! IPv4 addresses of devices.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use serde::Serialize;

use super::{Netlink, NetlinkError};

/// An IPv4 address of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// The device's name.
    pub interface: String,
    /// The address with the prefix of its subnet, `10.12.22.2/16`.
    pub address: Ipv4Net,
}

impl Netlink {
    /// Gives the device `index` an address. One that it has is as good.
    pub(crate) async fn add_address(
        &self,
        index: u32,
        address: Ipv4Net,
    ) -> Result<(), NetlinkError> {
        self.handle
            .address()
            .add(index, IpAddr::V4(address.addr()), address.prefix_len())
            .replace()
            .execute()
            .await
            .map_err(self.error("add address", address))
    }

    /// Takes an address from the device `index`. One that it has not is as good.
    pub(crate) async fn remove_address(
        &self,
        index: u32,
        address: Ipv4Net,
    ) -> Result<(), NetlinkError> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address.addr(), address.prefix_len())
            .build();
        let removed = self.handle.address().del(message).execute().await;
        match removed.map_err(self.error("remove address", address)) {
            Err(error) if error.source.raw_os_error() == Some(nix::libc::EADDRNOTAVAIL) => Ok(()),
            other => other,
        }
    }

    /// The IPv4 addresses of all devices, as they can be added again.
    pub(crate) async fn address_messages(&self) -> Result<Vec<AddressMessage>, NetlinkError> {
        let mut addresses: Vec<AddressMessage> = self
            .table("addresses", |handle| handle.address().get().execute())
            .await?;
        addresses.retain(|address| address.header.family == AddressFamily::Inet);
        Ok(addresses)
    }

    /// All IPv4 addresses, in the order in which the kernel lists them.
    pub(crate) async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let names = self.link_names().await?;
        let messages = self.address_messages().await?;
        let addresses = messages.into_iter().filter_map(|message| {
            let address = local_address(&message.attributes)?;
            Some(Address {
                interface: names.get(&message.header.index)?.clone(),
                address: Ipv4Net::new(address, message.header.prefix_len).ok()?,
            })
        });
        Ok(addresses.collect())
    }
}

/// `IFA_LOCAL` is the device's own address; `IFA_ADDRESS` may be the peer's.
fn local_address(attributes: &[AddressAttribute]) -> Option<Ipv4Addr> {
    attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })
}
