//! What the kernel has of a machine, as typed values.

use ipnet::Ipv4Net;

use super::Machine;
use crate::error::Error;
use crate::event::Kind;
use crate::netlink::{Address, Link, Neighbour, Route, RouteEvents};
use crate::route_table;

impl Machine {
    /// Its network devices, in the order of their indices.
    ///
    /// # Errors
    /// When the kernel refuses the list.
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        Ok(self.live()?.netlink().links().await?)
    }

    /// Its IPv4 addresses.
    ///
    /// # Errors
    /// When the kernel refuses the list.
    pub async fn addresses(&self) -> Result<Vec<Address>, Error> {
        Ok(self.live()?.netlink().addresses().await?)
    }

    /// The IPv4 routes of its main table, by destination.
    ///
    /// # Errors
    /// When the kernel refuses the list.
    pub async fn routes(&self) -> Result<Vec<Route>, Error> {
        Ok(self.live()?.netlink().routes().await?)
    }

    /// Deletes the route of its main table to exactly this destination, as `ip route del` does.
    ///
    /// # Errors
    /// When there is no such route.
    pub async fn delete_route(&self, destination: Ipv4Net) -> Result<(), Error> {
        self.live()?.netlink().remove_route(destination).await?;
        let destination = destination.to_string();
        self.record(Kind::RouteDeleted { destination });
        Ok(())
    }

    /// The changes of its main IPv4 table from now on.
    ///
    /// # Errors
    /// When the kernel refuses the subscription.
    pub fn route_events(&self) -> Result<RouteEvents, Error> {
        Ok(RouteEvents::subscribe(
            &self.live()?.namespaces(),
            self.name(),
        )?)
    }

    /// Its IPv4 neighbour entries.
    ///
    /// # Errors
    /// When the kernel refuses the list.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, Error> {
        Ok(self.live()?.netlink().neighbours().await?)
    }

    /// Its routes as `route -n` prints them.
    ///
    /// # Errors
    /// When the kernel refuses the list.
    pub async fn route_table(&self) -> Result<String, Error> {
        Ok(route_table::route_n(&self.routes().await?))
    }

    /// Sets the MTU of a device in bytes, as `ip link set DEVICE mtu MTU` does.
    ///
    /// # Errors
    /// When there is no such device or the kernel refuses the value.
    pub async fn set_link_mtu(&self, device: &str, mtu: u32) -> Result<(), Error> {
        self.live()?.netlink().set_link_mtu(device, mtu).await?;
        let device = device.to_owned();
        self.record(Kind::MtuSet { device, mtu });
        Ok(())
    }

    /// Brings a device up or down, as `ip link set DEVICE up` does.
    ///
    /// # Errors
    /// When there is no such device.
    pub async fn set_link_up(&self, device: &str, up: bool) -> Result<(), Error> {
        self.live()?.netlink().set_link_up(device, up).await?;
        let device = device.to_owned();
        self.record(Kind::LinkSet { device, up });
        Ok(())
    }
}
