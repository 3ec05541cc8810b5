//! Two tc programs on a veth pair, for kernels without an ipip device.
//!
//! `tunl0` is one end of the pair: what is routed into it arrives at the other end, where a
//! program puts it into IPIP and sends it out of the underlay interface. A program there takes
//! what arrives out of IPIP and hands it to `tunl0`. Neither end asks by ARP.

mod program;

use std::net::Ipv4Addr;

pub(crate) use program::ProgramError;
use program::Programs;

use super::{EncapError, Encapsulation, TUNNEL, TunnelSpec, named, shape};
use crate::desired::Peers;
use crate::mac::Mac;
use crate::platform::{KernelError, Link, NewLink, Platform};
use crate::report;

const PEER: &str = "tunl0-x";
const KIND: &str = "veth";

/// See the module.
#[derive(Default)]
pub(crate) struct Ebpf {
    programs: Option<Programs>,
    attached: Option<Ends>,
    peers: Option<Peers>,
}

/// Where the programs are attached.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    tunnel: u32,
    mac: Mac,
    peer: u32,
    underlay: u32,
    node_address: Ipv4Addr,
}

impl Encapsulation for Ebpf {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn look(&mut self, platform: &mut dyn Platform) -> Result<String, String> {
        // Loaded programs that are attached nowhere go when they are dropped.
        let answer = self.prepare(platform);
        self.programs = None;
        answer
    }

    fn prepare(&mut self, _platform: &mut dyn Platform) -> Result<String, String> {
        let programs = Programs::load().map_err(|error| report::line(&error))?;
        self.programs = Some(programs);
        Ok("the kernel's verifier took the tc programs".to_owned())
    }

    fn ensure(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        let mut changed = false;
        let (tunnel, peer) = match pair(links)? {
            Some((tunnel, peer)) => (tunnel.clone(), peer.clone()),
            None => {
                changed = true;
                create(spec.mtu, platform)?
            }
        };
        for end in [&peer, &tunnel] {
            quiet(&end.name, platform)?;
            changed |= shape(end, spec.mtu, false, platform)?;
        }
        self.program(spec, &tunnel, &peer)?;
        Ok(changed)
    }

    fn receive_only(&mut self, peers: &Peers) -> Result<(), EncapError> {
        // Programs of a former life, if any, have that life's peers.
        if self.attached.is_some() {
            self.set_peers(peers)?;
        }
        Ok(())
    }

    fn withdraw(
        &mut self,
        _underlay: &Link,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        // Before the pair goes, and without one, too: what arrives must not be taken any more.
        Programs::detach_all()?;
        let Ok(Some((tunnel, _))) = pair(links) else {
            return Ok(false);
        };
        platform.remove(tunnel.index)?;
        Ok(true)
    }
}

impl Ebpf {
    fn program(
        &mut self,
        spec: &TunnelSpec<'_>,
        tunnel: &Link,
        peer: &Link,
    ) -> Result<(), EncapError> {
        self.set_peers(spec.peers)?;
        let ends = Ends {
            tunnel: tunnel.index,
            mac: tunnel.mac.unwrap_or(Mac([0; 6])),
            peer: peer.index,
            underlay: spec.underlay.index,
            node_address: spec.node_address,
        };
        if self.attached == Some(ends) && !spec.thorough {
            return Ok(());
        }
        self.programs()?.attach(&program::TunnelEnds {
            tunnel_ifindex: ends.tunnel,
            tunnel_mac: ends.mac.0,
            peer_name: PEER,
            underlay_name: &spec.underlay.name,
            node_address: ends.node_address,
        })?;
        self.attached = Some(ends);
        Ok(())
    }

    fn set_peers(&mut self, peers: &Peers) -> Result<(), EncapError> {
        if self.peers.as_ref() != Some(peers) {
            // A failure half-way leaves neither the old nor the new set.
            self.peers = None;
            self.programs()?.set_peers(&peers.prefixes())?;
            self.peers = Some(peers.clone());
        }
        Ok(())
    }

    fn programs(&mut self) -> Result<&mut Programs, EncapError> {
        Ok(match &mut self.programs {
            Some(programs) => programs,
            none => none.insert(Programs::load()?),
        })
    }
}

/// `tunl0` and its peer, if they are there.
///
/// # Errors
/// When one of the names belongs to something else.
fn pair(links: &[Link]) -> Result<Option<(&Link, &Link)>, EncapError> {
    match (named(links, TUNNEL), named(links, PEER)) {
        (None, None) => Ok(None),
        (Some(tunnel), Some(peer)) if tunnel.kind == KIND && tunnel.peer == Some(peer.index) => {
            Ok(Some((tunnel, peer)))
        }
        (Some(other), _) | (None, Some(other)) => Err(EncapError::occupied(other)),
    }
}

fn create(mtu: u32, platform: &mut dyn Platform) -> Result<(Link, Link), EncapError> {
    let veth = NewLink::Veth {
        name: TUNNEL.to_owned(),
        peer: PEER.to_owned(),
        mtu,
    };
    platform.create(&veth)?;
    let links = platform.links()?;
    let (tunnel, peer) = pair(&links)?.ok_or_else(|| KernelError {
        operation: "find link",
        object: TUNNEL.to_owned(),
        message: "it was just made".to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    Ok((tunnel.clone(), peer.clone()))
}

/// Removes the pair. Returns what was done.
pub(super) fn clean(platform: &mut dyn Platform) -> Result<Vec<String>, EncapError> {
    let links = platform.links()?;
    let Ok(Some((tunnel, _))) = pair(&links) else {
        return Ok(Vec::new());
    };
    platform.remove(tunnel.index)?;
    Ok(vec![format!("link {TUNNEL} and its peer {PEER}")])
}

/// Without IPv6 neither end sends router solicitations and the like into the tunnel.
fn quiet(interface: &str, platform: &mut dyn Platform) -> Result<bool, KernelError> {
    platform.set_if_present(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::fake::FakeKernel;

    #[test]
    fn the_pair_is_recognised_by_names_kind_and_kinship() {
        let mut kernel = FakeKernel::with_underlay();
        assert!(pair(&kernel.links).unwrap().is_none());
        let (tunnel, peer) = create(1440, &mut kernel).unwrap();
        assert_eq!(
            (tunnel.mtu, tunnel.arp, peer.mtu, peer.arp),
            (1440, false, 1440, false)
        );
        assert_eq!(
            pair(&kernel.links).unwrap(),
            Some((&tunnel, &peer)),
            "a former life's pair"
        );

        let mut foreign = kernel.links.clone();
        foreign
            .iter_mut()
            .find(|link| link.name == TUNNEL)
            .unwrap()
            .peer = Some(99);
        assert!(pair(&foreign).is_err(), "two veths, but not one pair");
        foreign.retain(|link| link.name != PEER);
        assert!(pair(&foreign).is_err(), "a veth that leads elsewhere");
        foreign
            .iter_mut()
            .find(|link| link.name == TUNNEL)
            .unwrap()
            .kind = "ipip".into();
        let error = pair(&foreign).unwrap_err().to_string();
        assert!(
            error.contains("tunl0 exists and is not ours (it is of type ipip)"),
            "{error}"
        );
    }

    #[test]
    fn ipv6_is_switched_off_where_there_is_ipv6() {
        let mut kernel = FakeKernel::with_underlay();
        assert!(!quiet(TUNNEL, &mut kernel).unwrap(), "no such sysctl");
        kernel
            .sysctls
            .insert("net/ipv6/conf/tunl0/disable_ipv6".into(), "0".into());
        assert!(quiet(TUNNEL, &mut kernel).unwrap());
        assert_eq!(kernel.sysctls["net/ipv6/conf/tunl0/disable_ipv6"], "1");
    }
}
