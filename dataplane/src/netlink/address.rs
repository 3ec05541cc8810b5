//! IPv4 addresses over netlink.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link::error;
use super::{Kernel, failed, name_of};
use crate::platform::{Address, Addresses, KernelError};

impl Addresses for Kernel {
    fn addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        let mut all = AddressMessage::default();
        all.header.family = AddressFamily::Inet;
        self.socket
            .dump(
                RouteNetlinkMessage::GetAddress(all),
                |message| match message {
                    RouteNetlinkMessage::NewAddress(address) => parse(&address),
                    _ => None,
                },
            )
            .map_err(|error| failed("list", "addresses", error))
    }

    fn add_address(&mut self, address: &Address) -> Result<(), KernelError> {
        let message = RouteNetlinkMessage::NewAddress(build(address));
        self.socket
            .request(message, NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|refused| error("add address", object(address), refused))
    }

    fn remove_address(&mut self, address: &Address) -> Result<(), KernelError> {
        let message = RouteNetlinkMessage::DelAddress(build(address));
        self.socket
            .request(message, 0)
            .map_err(|refused| error("remove address", object(address), refused))
    }
}

fn object(address: &Address) -> String {
    format!("{} dev {}", address.address, name_of(address.interface))
}

fn build(address: &Address) -> AddressMessage {
    AddressMessageBuilder::<std::net::Ipv4Addr>::new()
        .index(address.interface)
        .address(address.address.addr(), address.address.prefix_len())
        .build()
}

fn parse(message: &AddressMessage) -> Option<Address> {
    // IFA_ADDRESS is the peer's on a point-to-point link; IFA_LOCAL is always ours.
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        })?;
    let address = Ipv4Net::new(local, message.header.prefix_len).ok()?;
    Some(Address {
        interface: message.header.index,
        address,
    })
}
