//! Two tc programs on a veth pair, for kernels without an ipip device.
//!
//! What is routed into `tunl0` arrives at the other end of the [pair](super::veth), where a
//! program puts it into IPIP and sends it out of the underlay interface. A program there takes
//! what arrives out of IPIP and hands it to `tunl0`.

mod program;

use std::net::Ipv4Addr;

pub(crate) use program::ProgramError;
use program::Programs;

use super::veth::{self, PEER, Pair};
use super::{EncapError, Encapsulation, TunnelSpec};
use crate::desired::Peers;
use crate::mac::Mac;
use crate::platform::{Link, Platform};
use crate::report;

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
        let Pair {
            tunnel,
            peer,
            changed,
        } = veth::ensure(spec.mtu, links, platform)?;
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
        _links: &[Link],
        _platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        // Also without a pair: what arrives must not be taken any more.
        Programs::detach_all()?;
        Ok(false)
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
