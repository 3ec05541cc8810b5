//! The kernel's own tunnel device, as the agent leaves it.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use podlab::netlink::IpTunnel;
use podlab_scenarios::seed::{MTU, TUNNEL};

use crate::each::boot;

/// What `ip -d link` prints as `ipip remote any local any ttl inherit nopmtudisc`.
const CALICOS: IpTunnel = IpTunnel {
    local: Ipv4Addr::UNSPECIFIED,
    remote: Ipv4Addr::UNSPECIFIED,
    ttl: 0,
    tos: 0,
    path_mtu_discovery: false,
};

/// Proves that the tunnel is Calico's: one device to everybody, whose outer headers take ttl and
/// don't-fragment from inside. A fixed far end would lead to one node only, a fixed ttl would hide
/// loops, and `pmtudisc` would refuse packets that may be cut.
#[podlab::test]
async fn the_tunnel_is_an_ipip_device_to_everybody() -> Result<()> {
    let cluster = boot("kernel").await?;
    for node in cluster.nodes() {
        let links = node.links().await?;
        let tunnel = links.iter().find(|link| link.name == TUNNEL);
        let tunnel = tunnel.with_context(|| format!("{}: {links:?}", node.name()))?;
        assert_eq!(tunnel.kind.as_deref(), Some("ipip"), "{}", node.name());
        assert_eq!(tunnel.tunnel, Some(CALICOS), "{}", node.name());
        assert_eq!((tunnel.up, tunnel.mtu), (true, MTU), "{}", node.name());
        let of_type = |link: &&podlab::netlink::Link| link.kind.as_deref() == Some("ipip");
        assert_eq!(links.iter().filter(of_type).count(), 1, "{links:?}");
    }
    Ok(())
}
