//! The address under which a node speaks through an interface that has none of its own, such as the
//! one to a pod.

use std::net::Ipv4Addr;

use podlab::{Error, Node};

use crate::seed::TUNNEL;

/// The kernel takes the address of the first device, in the order in which they were made, that
/// has one for others to see (`inet_select_addr` in net/ipv4/devinet.c).
///
/// On a machine that is the network card's. A node here has its tunnel first where the kernel has
/// loaded its `ipip` module before: that puts a `tunl0` into every new network namespace, unless
/// the sysctl `net.core.fb_tunnels_only_for_init_net` says otherwise. Nothing can remove or move
/// it. There, and with the `kernel` backend only, it is the tunnel's address, if it has one.
///
/// # Errors
/// When the kernel does not tell its devices and addresses.
pub async fn source(node: &Node) -> Result<Ipv4Addr, Error> {
    let links = node.links().await?;
    let index = |name: &str| links.iter().position(|link| link.name == name);
    if index(TUNNEL) < index(&node.underlay()) {
        let addresses = node.addresses().await?;
        if let Some(tunnels) = addresses.iter().find(|address| address.interface == TUNNEL) {
            return Ok(tunnels.address.addr());
        }
    }
    Ok(node.address())
}
