//! Two tc programs on a veth pair, for kernels without an ipip device.
//!
//! What is routed into `tunl0` arrives at the other end of the [pair](super::veth), where a
//! program puts it into IPIP and sends it out of the underlay interface. A program there takes
//! what arrives out of IPIP and hands it to `tunl0`.

mod program;

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

pub(crate) use program::ProgramError;
use program::{Programs, TunnelEnds};

use super::veth::{self, PEER, Pair, TUNNEL_PAIR};
use super::{EncapError, Encapsulation, Removed, TunnelSpec};
use crate::compare::{self, Row};
use crate::desired::Peers;
use crate::mac::Mac;
use crate::netlink::events::Event;
use crate::platform::{KernelError, Link, Platform};
use crate::report;

/// See the module.
#[derive(Default)]
pub(crate) struct Ebpf {
    programs: Option<Programs>,
    attached: Option<TunnelEnds>,
    peers: Option<Peers>,
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
        } = veth::ensure(&TUNNEL_PAIR, spec.mtu, links, platform)?;
        let ends = TunnelEnds {
            tunnel: tunnel.index,
            mac: tunnel.mac.unwrap_or(Mac([0; 6])),
            peer: peer.index,
            underlay: spec.underlay.index,
            node_address: spec.node_address,
        };
        if spec.thorough {
            self.programs()?.read_peers()?;
            self.peers = None;
        }
        let peers = self.set_peers(spec.peers)?;
        let programs = self.programs()?.attach(ends, platform)?;
        self.attached = Some(ends);
        Ok(changed || peers || programs)
    }

    fn concerns(&self, event: &Event) -> bool {
        let Event::TcFilter { interface } = event else {
            return false;
        };
        let ends = self.attached.iter();
        ends.flat_map(|ends| [ends.peer, ends.underlay])
            .any(|end| end == *interface)
    }

    fn is_at_work(&mut self, _links: &[Link], platform: &mut dyn Platform) -> bool {
        platform.tc_filters().is_ok_and(|found| !found.is_empty())
    }

    fn compare(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<Vec<Row>, EncapError> {
        let mut compared = vec![veth::compare(PEER, spec.mtu, links)];
        let text = |name: &str, device: &str| format!("tc filter {name} dev {device} ingress");
        let filters = platform.tc_filters()?;
        let found = filters
            .iter()
            .map(|f| text(&f.name, &device(f.interface, links)));
        let [outward, inward] = program::FILTERS;
        let wanted = [text(outward, PEER), text(inward, &spec.underlay.name)];
        compared.extend(compare::rows(&wanted.into(), &found.collect()));

        let peer = |peer: &Ipv4Net| format!("tc allow-list {peer}");
        let wanted = spec.peers.prefixes().iter().map(peer).collect();
        let receives = filters.iter().find(|filter| filter.name == inward);
        let found = match receives {
            Some(filter) => program::peers_of(filter.program)?
                .iter()
                .map(peer)
                .collect(),
            None => BTreeSet::new(),
        };
        compared.extend(compare::rows(&wanted, &found));
        Ok(compared)
    }

    fn withdraw(
        &mut self,
        _underlay: &Link,
        _links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        // Also without a pair: what arrives must not be taken any more.
        Programs::detach_all(platform)?;
        Ok(false)
    }
}

/// The name of an interface; its index when it is gone.
fn device(index: u32, links: &[Link]) -> String {
    let link = links.iter().find(|link| link.index == index);
    link.map_or_else(|| format!("#{index}"), |link| link.name.clone())
}

/// Removes the filters of whatever life.
pub(super) fn stop(platform: &mut dyn Platform) -> Result<Vec<Removed>, KernelError> {
    let links = platform.links()?;
    let mut removed = Vec::new();
    for filter in platform.tc_filters()? {
        let device = device(filter.interface, &links);
        let what = format!("tc filter at the ingress of {device}");
        removed.push((what, platform.remove_tc_filter(filter.interface)));
    }
    Ok(removed)
}

impl Ebpf {
    /// Returns whether the set was changed.
    fn set_peers(&mut self, peers: &Peers) -> Result<bool, EncapError> {
        if self.peers.as_ref() == Some(peers) {
            return Ok(false);
        }
        // A failure half-way leaves neither the old nor the new set.
        self.peers = None;
        let changed = self.programs()?.set_peers(&peers.prefixes())?;
        self.peers = Some(peers.clone());
        Ok(changed)
    }

    fn programs(&mut self) -> Result<&mut Programs, EncapError> {
        Ok(match &mut self.programs {
            Some(programs) => programs,
            none => none.insert(Programs::load()?),
        })
    }
}
