//! The veth pairs of the backends that have no device of their own.
//!
//! In the [`TUNNEL_PAIR`] `tunl0` is the end that the routes lead into; what the node sends there
//! arrives at the other end, `tunl0-x`, where the backend takes it. Neither end asks by ARP. The
//! pair outlives the agent and is the same for all these backends: whoever is chosen next takes it
//! over.

use super::{EncapError, TUNNEL, named, shape};
use crate::compare::Row;
use crate::platform::{KernelError, Link, NewLink, Platform};

/// The end that the backend works at.
pub(super) const PEER: &str = "tunl0-x";
/// The pair that all these backends have.
pub(super) const TUNNEL_PAIR: Names = Names {
    one: TUNNEL,
    other: PEER,
};
const KIND: &str = "veth";

/// What the ends of a pair are called.
pub(super) struct Names {
    pub one: &'static str,
    pub other: &'static str,
}

/// Both ends; `tunnel` is the first of the [`Names`].
pub(super) struct Pair {
    pub tunnel: Link,
    pub peer: Link,
    /// Whether an interface was made or changed to have them so.
    pub changed: bool,
}

/// Brings the pair to `mtu` and up, and makes it where it is missing.
///
/// # Errors
/// When one of the names belongs to something else, or the kernel refuses.
pub(super) fn ensure(
    names: &Names,
    mtu: u32,
    links: &[Link],
    platform: &mut dyn Platform,
) -> Result<Pair, EncapError> {
    let mut changed = false;
    let (tunnel, peer) = match find(names, links)? {
        Some((tunnel, peer)) => (tunnel.clone(), peer.clone()),
        None => {
            changed = true;
            create(names, mtu, platform)?
        }
    };
    for end in [&peer, &tunnel] {
        quiet(&end.name, platform)?;
        changed |= shape(end, mtu, false, platform)?;
    }
    if changed {
        for end in [&peer, &tunnel] {
            platform.await_carrier(end.index)?;
        }
    }
    Ok(Pair {
        tunnel,
        peer,
        changed,
    })
}

/// The end with this name, as it shall be and as it is.
pub(super) fn compare(name: &str, mtu: u32, links: &[Link]) -> Row {
    let text = |mtu: u32, up: bool| {
        let state = if up { "up" } else { "down" };
        format!("link {name} mtu {mtu} {state}")
    };
    Row {
        desired: Some(text(mtu, true)),
        actual: named(links, name).map(|link| text(link.mtu, link.up)),
    }
}

/// Makes room for a device of another kind: removes the pair, if it is there. Returns whether
/// it was.
pub(super) fn remove(
    names: &Names,
    links: &[Link],
    platform: &mut dyn Platform,
) -> Result<bool, EncapError> {
    let Ok(Some((tunnel, _))) = find(names, links) else {
        return Ok(false);
    };
    platform.remove(tunnel.index)?;
    Ok(true)
}

/// Removes a pair for good. Returns what was done.
pub(super) fn clean(names: &Names, platform: &mut dyn Platform) -> Result<Vec<String>, EncapError> {
    let links = platform.links()?;
    Ok(match remove(names, &links, platform)? {
        true => vec![format!("link {} and its peer {}", names.one, names.other)],
        false => Vec::new(),
    })
}

/// Both ends, if they are there.
///
/// # Errors
/// When one of the names belongs to something else.
fn find<'a>(names: &Names, links: &'a [Link]) -> Result<Option<(&'a Link, &'a Link)>, EncapError> {
    match (named(links, names.one), named(links, names.other)) {
        (None, None) => Ok(None),
        (Some(tunnel), Some(peer)) if tunnel.kind == KIND && tunnel.peer == Some(peer.index) => {
            Ok(Some((tunnel, peer)))
        }
        (Some(other), _) | (None, Some(other)) => Err(EncapError::occupied(other)),
    }
}

fn create(
    names: &Names,
    mtu: u32,
    platform: &mut dyn Platform,
) -> Result<(Link, Link), EncapError> {
    let veth = NewLink::Veth {
        name: names.one.to_owned(),
        peer: names.other.to_owned(),
        mtu,
    };
    platform.create(&veth)?;
    let links = platform.links()?;
    let (tunnel, peer) = find(names, &links)?.ok_or_else(|| KernelError {
        operation: "find link",
        object: names.one.to_owned(),
        message: "it was just made".to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    Ok((tunnel.clone(), peer.clone()))
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
        assert!(find(&TUNNEL_PAIR, &kernel.links).unwrap().is_none());
        let (tunnel, peer) = create(&TUNNEL_PAIR, 1440, &mut kernel).unwrap();
        assert_eq!(
            (tunnel.mtu, tunnel.arp, peer.mtu, peer.arp),
            (1440, false, 1440, false)
        );
        assert_eq!(
            find(&TUNNEL_PAIR, &kernel.links).unwrap(),
            Some((&tunnel, &peer)),
            "a former life's pair"
        );

        let mut foreign = kernel.links.clone();
        foreign.retain(|link| link.name != PEER);
        assert!(
            find(&TUNNEL_PAIR, &foreign).is_err(),
            "a veth that leads elsewhere"
        );
        assert!(
            !remove(&TUNNEL_PAIR, &foreign, &mut kernel).unwrap(),
            "not ours to remove"
        );
        foreign
            .iter_mut()
            .find(|link| link.name == TUNNEL)
            .unwrap()
            .kind = "ipip".into();
        let error = find(&TUNNEL_PAIR, &foreign).unwrap_err().to_string();
        assert!(
            error.contains("tunl0 exists and is not ours (it is of type ipip)"),
            "{error}"
        );
    }

    #[test]
    fn a_former_lifes_pair_is_taken_over_and_shaped() {
        let mut kernel = FakeKernel::with_underlay();
        let links = kernel.links.clone();
        let first = ensure(&TUNNEL_PAIR, 1440, &links, &mut kernel).unwrap();
        assert!(first.changed);
        let links = kernel.links.clone();
        let second = ensure(&TUNNEL_PAIR, 1440, &links, &mut kernel).unwrap();
        assert!(!second.changed, "nothing to do");
        assert_eq!(second.tunnel.index, first.tunnel.index);
        assert!(
            ensure(&TUNNEL_PAIR, 1400, &links, &mut kernel)
                .unwrap()
                .changed
        );
        assert_eq!(
            (kernel.link(TUNNEL).mtu, kernel.link(PEER).mtu),
            (1400, 1400)
        );
        let links = kernel.links.clone();
        assert!(remove(&TUNNEL_PAIR, &links, &mut kernel).unwrap());
        assert!(find(&TUNNEL_PAIR, &kernel.links).unwrap().is_none());
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
