//! How large packets may be: on the tunnel, and in the pods.

use crate::datastore::{InterfacePattern, Mode, Snapshot};

/// Length of the outer IPv4 header, which has no options.
const OUTER_HEADER: u32 = 20;

/// The tunnel's MTU, as far as the datastore determines it.
///
/// One device serves all pools, so the smallest that any of them asks for holds. The default is
/// what the underlay allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelMtu {
    /// The smallest one that a pool states.
    explicit: Option<u32>,
    /// Some pool states none and takes what the underlay allows.
    inherited: bool,
}

impl TunnelMtu {
    /// That of all pools together; `None` when none of them encapsulates.
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
        let mtus: Vec<Option<u32>> = snapshot
            .pools
            .values()
            .filter(|pool| pool.encapsulation != Mode::Never)
            .map(|pool| pool.tunnel_mtu)
            .collect();
        (!mtus.is_empty()).then(|| Self {
            explicit: mtus.iter().copied().flatten().min(),
            inherited: mtus.contains(&None),
        })
    }

    /// The MTU in bytes on an underlay whose own is `underlay`.
    #[must_use]
    pub fn on(self, underlay: u32) -> u32 {
        let inherited = underlay.saturating_sub(OUTER_HEADER);
        match self.explicit {
            Some(explicit) if self.inherited => explicit.min(inherited),
            Some(explicit) => explicit,
            None => inherited,
        }
    }
}

/// An interface that may carry packets between nodes.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// Administratively up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// The MTU of the underlay: the lowest of the interface `own`, which has the node's address, and
/// of all that are up and match the pattern. By which of them the packets of other nodes come
/// and go is up to the routing table, which may change.
#[must_use]
pub fn underlay_mtu<'a>(
    own: Interface<'a>,
    all: impl IntoIterator<Item = Interface<'a>>,
    pattern: &InterfacePattern,
) -> u32 {
    all.into_iter()
        .filter(|other| other.up && pattern.matches(other.name))
        .fold(own.mtu, |lowest, other| lowest.min(other.mtu))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Tunnel;
    use crate::fixtures::pool;
    use rstest::rstest;

    const OWN: Interface<'static> = interface("ens192", true, 1500);

    const fn interface(name: &str, up: bool, mtu: u32) -> Interface<'_> {
        Interface { name, up, mtu }
    }

    #[rstest]
    #[case::alone(&[], 1500)]
    #[case::a_lower_one(&[interface("eth1", true, 1400)], 1400)]
    #[case::the_lowest(&[interface("eth1", true, 1400), interface("eth2", true, 1300)], 1300)]
    #[case::a_higher_one(&[interface("eth1", true, 9000)], 1500)]
    #[case::one_that_is_down(&[interface("eth1", false, 1400)], 1500)]
    #[case::one_of_another_kind(&[interface("docker0", true, 1400)], 1500)]
    #[case::our_own_tunnel(&[interface("tunl0", true, 1480)], 1500)]
    fn the_lowest_up_interface_that_matches_counts(
        #[case] others: &[Interface<'_>],
        #[case] expected: u32,
    ) {
        let all = others.iter().copied().chain([OWN]);
        assert_eq!(
            underlay_mtu(OWN, all, &InterfacePattern::default()),
            expected
        );
    }

    #[rstest]
    #[case::whatever_it_is_called("br-ex", true)]
    #[case::while_it_is_down("ens192", false)]
    fn the_one_with_the_nodes_address_counts_always(#[case] name: &str, #[case] up: bool) {
        let own = interface(name, up, 1450);
        let pattern = InterfacePattern::new("^ens").unwrap();
        assert_eq!(underlay_mtu(own, [own], &pattern), 1450);
        let other = interface("ens224", true, 1500);
        assert_eq!(underlay_mtu(own, [own, other], &pattern), 1450);
    }

    #[rstest]
    #[case::stated(Mode::Always, Some(1300), 1300)]
    #[case::stated_and_too_much(Mode::CrossSubnet, Some(8000), 8000)]
    #[case::inherited(Mode::CrossSubnet, None, 1480)]
    #[case::without_a_tunnel(Mode::Never, Some(1300), 1500)]
    fn pods_have_the_tunnels_mtu(
        #[case] mode: Mode,
        #[case] tunnel_mtu: Option<u32>,
        #[case] expected: u32,
    ) {
        let mut snapshot = Snapshot::default();
        let mut pool = pool("192.168.0.0/16", mode);
        pool.tunnel_mtu = tunnel_mtu;
        snapshot.pools.insert("p".into(), pool);
        assert_eq!(Tunnel::new(&snapshot, None).pod_mtu(1500), expected);
    }
}
