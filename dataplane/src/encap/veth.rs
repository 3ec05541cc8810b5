//! The veth pairs of the backends that have no device of their own.
//!
//! In the [`TUNNEL_PAIR`] `tunl0` is the end that the routes lead into; what the node sends there
//! arrives at the other end, `tunl0-x`, where the backend takes it. Neither end asks by ARP. The
//! pair outlives the agent and is the same for all these backends: whoever is chosen next takes it
//! over. An end that somebody has renamed is known by the other, and gets its name back.

use super::{EncapError, TUNNEL, named, rename, shape};
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
        Some((tunnel, peer)) => {
            let mut ends = (tunnel.clone(), peer.clone());
            for (end, name) in [(&mut ends.0, names.one), (&mut ends.1, names.other)] {
                if end.name != name {
                    *end = rename(end, name, platform)?;
                    changed = true;
                }
            }
            ends
        }
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

/// Both ends, if they are there. One of them may have another name by now.
///
/// # Errors
/// When one of the names belongs to something else.
fn find<'a>(names: &Names, links: &'a [Link]) -> Result<Option<(&'a Link, &'a Link)>, EncapError> {
    let other_end = |end: &Link| {
        let mut ends = links.iter();
        let other = ends.find(|link| end.peer == Some(link.index))?;
        let kin = other.peer == Some(end.index) && end.kind == KIND && other.kind == KIND;
        kin.then_some(other)
    };
    match (named(links, names.one), named(links, names.other)) {
        (None, None) => Ok(None),
        (Some(tunnel), named) => match other_end(tunnel) {
            // Where the other name is somebody else's there is no way back to it.
            Some(peer) => match named.filter(|named| *named != peer) {
                Some(other) => Err(EncapError::occupied(other)),
                None => Ok(Some((tunnel, peer))),
            },
            None => Err(EncapError::occupied(tunnel)),
        },
        (None, Some(peer)) => match other_end(peer) {
            Some(tunnel) => Ok(Some((tunnel, peer))),
            None => Err(EncapError::occupied(peer)),
        },
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
    use rstest::rstest;

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

    /// Of the tunnel, a backend that waited for its name to be free would wait for ever.
    #[rstest]
    #[case::tunnel(TUNNEL, true)]
    #[case::tunnel_of_a_kernel_before_6_2(TUNNEL, false)]
    #[case::peer(PEER, true)]
    fn an_end_that_was_renamed_gets_its_name_back(#[case] end: &str, #[case] live: bool) {
        let mut kernel = FakeKernel::with_underlay();
        kernel.renames_live = live;
        let links = kernel.links.clone();
        let pair = ensure(&TUNNEL_PAIR, 1440, &links, &mut kernel).unwrap();
        kernel.link_mut(end).name = "stray".into();
        let links = kernel.links.clone();
        assert!(
            compare(end, 1440, &links).actual.is_none(),
            "the status tells"
        );
        let again = ensure(&TUNNEL_PAIR, 1440, &links, &mut kernel).unwrap();
        assert!(again.changed);
        let ends =
            |pair: &Pair| [&pair.tunnel, &pair.peer].map(|end| (end.index, end.name.clone()));
        assert_eq!(ends(&again), ends(&pair));
        for (index, name) in ends(&pair) {
            let end = kernel.link(&name);
            assert!(end.index == index && end.up, "{end:?}");
        }

        kernel.link_mut(end).name = "stray".into();
        kernel.add_link(end, "dummy");
        let links = kernel.links.clone();
        let error = find(&TUNNEL_PAIR, &links).unwrap_err().to_string();
        assert!(
            error.contains("is not ours (it is of type dummy)"),
            "{error}"
        );
        assert!(!remove(&TUNNEL_PAIR, &links, &mut kernel).unwrap());
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
