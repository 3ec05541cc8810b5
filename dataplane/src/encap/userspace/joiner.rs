//! The kernel's receive offload, put into the way out: it joins segments to super-packets.
//!
//! A packet costs about the same whatever its length, so a TCP stream is as fast as its packets
//! are long. The kernel's own devices pass super-packets on whole and cut them as late as
//! possible. A program cannot make one that has an outer header: through a packet socket it says
//! neither that the inner packet is to be cut (`SKB_GSO_IPXIP4`) nor that it need not be checked,
//! and without the one the kernel refuses to do the other. But what the kernel has joined itself
//! is as good as what its own tunnels send, to every device and every kind of node. So segments
//! take a turn through a veth pair of which one end joins what it receives (GRO):
//!
//! ```text
//! encapsulate ─► launcher ─► tunl0-seg ═veth═ tunl0-gro ─► tc redirect ─► underlay
//! ```
//!
//! The far end is read in batches, by a timer: while segments keep coming they wait for each
//! other, at most twice [`HOLD`]. Only streams that send super-packets take this way, all other
//! packets leave by the raw socket. It is not needed: where any part of it is missing in a kernel,
//! or forbidden, segments leave one by one.

use std::time::Duration;

use super::control::Joiner;
use crate::encap::veth::{self, Names};
use crate::encap::{EncapError, TunnelSpec};
use crate::platform::{Link, Platform};

/// Takes segments, and gives super-packets.
pub(super) const PAIR: Names = Names {
    one: "tunl0-seg",
    other: "tunl0-gro",
};

/// How long segments wait for more of them. In this time no more may come than a veth device
/// queues (256), and a round trip should not become much longer.
const HOLD: Duration = Duration::from_micros(100);

/// Brings the pair into place for packets to `spec.underlay`. Returns whether anything was
/// changed, and how packets get there; `None` where the underlay is no Ethernet.
///
/// # Errors
/// When one of the names belongs to something else, or the kernel refuses.
pub(super) fn ensure(
    spec: &TunnelSpec<'_>,
    links: &[Link],
    platform: &mut dyn Platform,
) -> Result<(bool, Option<Joiner>), EncapError> {
    let Some(mac) = spec.underlay.mac else {
        return Ok((false, None));
    };
    let mtu = spec.underlay.mtu;
    let pair = veth::ensure(&PAIR, mtu, links, platform)?;
    let (segments, joined) = (&pair.tunnel, &pair.peer);
    let mut changed = pair.changed;
    changed |= platform.join(segments, joined, HOLD)?;
    changed |= platform.redirect(joined.index, spec.underlay.index)?;
    let joiner = Joiner {
        segments: segments.index,
        joined: joined.index,
        mac,
        mtu,
    };
    Ok((changed, Some(joiner)))
}

impl Joiner {
    /// Whether a change of tc filters on this interface may have broken the way.
    pub(super) fn concerns(&self, interface: u32) -> bool {
        self.joined == interface
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::fake::FakeKernel;
    use crate::desired::Peers;
    use crate::mac::Mac;

    fn run(kernel: &mut FakeKernel, underlay: &str) -> Result<(bool, Option<Joiner>), EncapError> {
        let underlay = kernel.link(underlay).clone();
        let peers = Peers::default();
        let spec = TunnelSpec {
            mtu: 1480,
            underlay: &underlay,
            node_address: "10.12.22.2".parse().unwrap(),
            peers: &peers,
            thorough: false,
        };
        let links = kernel.links.clone();
        ensure(&spec, &links, kernel)
    }

    #[test]
    fn the_pair_leads_to_the_underlay_and_follows_it() {
        let mut kernel = FakeKernel::with_underlay();
        let (changed, joiner) = run(&mut kernel, "ens192").unwrap();
        let joiner = joiner.unwrap();
        assert!(changed);
        let [underlay, segments, joined] =
            ["ens192", PAIR.one, PAIR.other].map(|name| kernel.link(name).clone());
        assert_eq!(
            (segments.mtu, segments.up, segments.arp),
            (1500, true, false)
        );
        assert_eq!(
            (joiner.segments, joiner.joined, Some(joiner.mac), joiner.mtu),
            (segments.index, joined.index, underlay.mac, 1500)
        );
        assert_eq!(kernel.joining, [joined.index]);
        assert_eq!(kernel.redirects[&joined.index], underlay.index);
        assert!(joiner.concerns(joined.index) && !joiner.concerns(segments.index));
        assert!(!run(&mut kernel, "ens192").unwrap().0, "all is right");

        let other = kernel.add_link("ens224", "");
        kernel.link_mut("ens224").mtu = 9000;
        assert!(run(&mut kernel, "ens224").unwrap().0);
        assert_eq!(kernel.redirects[&joined.index], other);
        assert_eq!(kernel.link(PAIR.other).mtu, 9000);
    }

    #[test]
    fn without_ethernet_or_names_there_is_none() {
        let mut kernel = FakeKernel::with_underlay();
        kernel.link_mut("ens192").mac = None;
        assert!(matches!(run(&mut kernel, "ens192"), Ok((false, None))));
        assert!(kernel.joining.is_empty());
        kernel.link_mut("ens192").mac = Some(Mac([2; 6]));
        kernel.add_link(PAIR.one, "dummy");
        let error = run(&mut kernel, "ens192").unwrap_err().to_string();
        assert!(
            error.contains("tunl0-seg exists and is not ours"),
            "{error}"
        );
    }
}
