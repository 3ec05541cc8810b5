//! What an IP tunnel device puts into outer headers.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::link::{InfoData, InfoIpTunnel};

/// The parameters of an `ipip` device, as `ip -d link` prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct IpTunnel {
    /// The outer source; unspecified (`any`) where the route to the far end decides.
    pub local: Ipv4Addr,
    /// The far end; unspecified (`any`) where the inner packet's route names it.
    pub remote: Ipv4Addr,
    /// The outer ttl; 0 takes the inner packet's (`ttl inherit`).
    pub ttl: u8,
    /// The outer type of service; 0 leaves it at 0 but for congestion marks, 1 takes the inner
    /// packet's (`tos inherit`).
    pub tos: u8,
    /// Whether outer packets never may be fragmented; otherwise the inner packet's own wish counts
    /// (`nopmtudisc`).
    pub path_mtu_discovery: bool,
}

impl IpTunnel {
    /// Those of a device that is an IPv4 tunnel.
    pub(super) fn from_data(data: &InfoData) -> Option<Self> {
        let InfoData::IpTunnel(parameters) = data else {
            return None;
        };
        let mut tunnel = Self {
            local: Ipv4Addr::UNSPECIFIED,
            remote: Ipv4Addr::UNSPECIFIED,
            ttl: 0,
            tos: 0,
            path_mtu_discovery: false,
        };
        for parameter in parameters {
            match parameter {
                InfoIpTunnel::Local(IpAddr::V4(address)) => tunnel.local = *address,
                InfoIpTunnel::Remote(IpAddr::V4(address)) => tunnel.remote = *address,
                // A tunnel in IPv6.
                InfoIpTunnel::Local(_) | InfoIpTunnel::Remote(_) => return None,
                InfoIpTunnel::Ttl(ttl) => tunnel.ttl = *ttl,
                InfoIpTunnel::Tos(tos) => tunnel.tos = *tos,
                InfoIpTunnel::PMtuDisc(on) => tunnel.path_mtu_discovery = *on,
                _ => {}
            }
        }
        Some(tunnel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_kept_and_the_rest_is_its_default() {
        let end = Ipv4Addr::new(10, 0, 0, 2);
        let data = InfoData::IpTunnel(vec![
            InfoIpTunnel::Remote(end.into()),
            InfoIpTunnel::Ttl(64),
            InfoIpTunnel::Tos(1),
            InfoIpTunnel::PMtuDisc(true),
        ]);
        let expected = IpTunnel {
            local: Ipv4Addr::UNSPECIFIED,
            remote: end,
            ttl: 64,
            tos: 1,
            path_mtu_discovery: true,
        };
        assert_eq!(IpTunnel::from_data(&data), Some(expected));
        let other = InfoData::Other(vec![]);
        assert_eq!(IpTunnel::from_data(&other), None);
    }
}
