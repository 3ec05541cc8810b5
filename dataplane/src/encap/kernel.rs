//! The kernel's own ipip device.
//!
//! The module makes a fallback `tunl0` in every network namespace when it is loaded, so one
//! that is there already is as good as one of our own, and it cannot be removed.

use std::fs;
use std::path::Path;

use super::{EncapError, Encapsulation, TUNNEL, TunnelSpec, named, rename, shape, veth};
use crate::compare::Row;
use crate::platform::{KernelError, Link, LinkChange, Links, NewLink, Platform};

const KIND: &str = "ipip";

/// Where the module's fallback waits while another backend has its name.
const PARKED: &str = "tunl0-ipip";

/// See the module.
pub(crate) struct Ipip;

impl Encapsulation for Ipip {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn look(&mut self, platform: &mut dyn Platform) -> Result<String, String> {
        let links = platform.links().map_err(|error| error.to_string())?;
        if named(&links, TUNNEL).is_some_and(|link| link.kind == KIND) {
            return Ok(format!("there is an ipip device {TUNNEL}"));
        }
        // Asking the kernel outright would load the module, which makes interfaces.
        if Path::new("/sys/module/ipip").exists() {
            return Ok("module ipip is loaded".to_owned());
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let modules = Path::new("/lib/modules").join(release.trim());
        for list in ["modules.dep", "modules.builtin"] {
            if fs::read_to_string(modules.join(list)).is_ok_and(|list| list.contains("/ipip.ko")) {
                return Ok("module ipip is installed".to_owned());
            }
        }
        Err("module ipip is neither loaded nor installed".to_owned())
    }

    fn prepare(&mut self, platform: &mut dyn Platform) -> Result<String, String> {
        match Links::supports(platform, KIND) {
            Ok(()) => Ok("this kernel has the ipip device".to_owned()),
            Err(error) if error.is_privilege() => {
                Err(format!("links cannot be made ({})", error.source))
            }
            Err(error) => Err(format!("this kernel has no ipip device ({})", error.source)),
        }
    }

    fn ensure(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        match named(links, TUNNEL) {
            Some(link) if link.kind == KIND => {
                return Ok(shape(link, spec.mtu, link.arp, platform)?);
            }
            // Left by a former life with a backend that works on one.
            Some(_) if veth::remove(&veth::TUNNEL_PAIR, links, platform)? => {}
            Some(link) => return Err(EncapError::occupied(link)),
            None => {}
        }
        let tunnel = obtain(platform)?;
        shape(&tunnel, spec.mtu, tunnel.arp, platform)?;
        Ok(true)
    }

    fn is_at_work(&mut self, links: &[Link], _platform: &mut dyn Platform) -> bool {
        named(links, TUNNEL).is_some_and(|link| link.kind == KIND)
    }

    fn compare(
        &mut self,
        _spec: &TunnelSpec<'_>,
        links: &[Link],
        _platform: &mut dyn Platform,
    ) -> Result<Vec<Row>, EncapError> {
        let kind = |kind: &str| format!("link {TUNNEL} of type {kind}");
        Ok(vec![Row {
            desired: Some(kind(KIND)),
            actual: named(links, TUNNEL).map(|link| kind(&link.kind)),
        }])
    }

    fn withdraw(
        &mut self,
        _underlay: &Link,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        let Some(link) = named(links, TUNNEL).filter(|link| link.kind == KIND) else {
            return Ok(false);
        };
        platform.remove(link.index)?;
        // The module's fallback says nothing and stays.
        let links = platform.links()?;
        if !links.iter().any(|left| left.index == link.index) {
            return Ok(true);
        }
        for address in platform
            .addresses()?
            .iter()
            .filter(|a| a.interface == link.index)
        {
            platform.remove_address(address)?;
        }
        rename(link, PARKED, platform)?;
        Ok(true)
    }
}

/// The device, where none has its name: the module's parked fallback, else a new one. The kernel
/// makes only one that takes packets from anybody; if there is one, somebody has renamed it.
fn obtain(platform: &mut dyn Platform) -> Result<Link, EncapError> {
    let links = platform.links()?;
    if let Some(parked) = named(&links, PARKED) {
        return Ok(rename(parked, TUNNEL, platform)?);
    }
    let created = platform.create(&NewLink::Ipip {
        name: TUNNEL.to_owned(),
    });
    let links = platform.links()?;
    // To create the first one loads the module, whose fallback is then first.
    if let Some(link) = named(&links, TUNNEL).filter(|link| link.kind == KIND) {
        return Ok(link.clone());
    }
    match created {
        Err(error) if error.source.raw_os_error() == Some(nix::libc::EEXIST) => {
            let mut all = links.iter();
            match all.find(|link| link.kind == KIND && link.any_to_any) {
                Some(renamed) => Ok(rename(renamed, TUNNEL, platform)?),
                None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
        Ok(()) => Err(KernelError {
            operation: "find link",
            object: TUNNEL.to_owned(),
            message: "it was just made".to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        }
        .into()),
    }
}

/// Takes the device's addresses, takes it down and removes it. The module's fallback cannot be
/// removed; it stays as the module had made it, but for its MTU. Returns what was done.
pub(super) fn clean(platform: &mut dyn Platform) -> Result<Vec<String>, EncapError> {
    let mut done = Vec::new();
    for link in platform.links()? {
        if link.kind != KIND || ![TUNNEL, PARKED].contains(&link.name.as_str()) {
            continue;
        }
        let addresses = platform.addresses()?;
        let own = addresses.iter().filter(|a| a.interface == link.index);
        let before = done.len();
        for address in own {
            platform.remove_address(address)?;
            done.push(format!("address {} dev {}", address.address, link.name));
        }
        if link.up {
            let down = LinkChange {
                up: Some(false),
                ..LinkChange::default()
            };
            platform.change(link.index, &down)?;
        }
        if !link.up && done.len() == before && link.name == TUNNEL {
            // As the module makes it.
            continue;
        }
        platform.remove(link.index)?;
        let links = platform.links()?;
        if link.name == PARKED && named(&links, PARKED).is_some() && named(&links, TUNNEL).is_none()
        {
            rename(&link, TUNNEL, platform)?;
        }
        done.push(format!("link {}", link.name));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::fake::FakeKernel;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    static NO_PEERS: crate::desired::Peers = crate::desired::Peers {
        nodes: BTreeSet::new(),
        external: BTreeSet::new(),
    };

    fn spec(underlay: &Link, mtu: u32) -> TunnelSpec<'_> {
        let node_address = Ipv4Addr::new(10, 12, 22, 2);
        TunnelSpec {
            mtu,
            underlay,
            node_address,
            peers: &NO_PEERS,
            thorough: false,
        }
    }

    #[test]
    fn a_tunnel_is_made_once_and_shaped() {
        let mut kernel = FakeKernel::with_underlay();
        let underlay = kernel.links[0].clone();
        let links = kernel.links.clone();
        assert!(
            Ipip.ensure(&spec(&underlay, 1440), &links, &mut kernel)
                .unwrap()
        );
        let tunnel = kernel.link(TUNNEL).clone();
        assert_eq!(
            (tunnel.kind.as_str(), tunnel.mtu, tunnel.up),
            ("ipip", 1440, true)
        );

        let links = kernel.links.clone();
        assert!(
            !Ipip
                .ensure(&spec(&underlay, 1440), &links, &mut kernel)
                .unwrap(),
            "nothing to do"
        );
        assert!(
            Ipip.ensure(&spec(&underlay, 1400), &links, &mut kernel)
                .unwrap()
        );
        assert_eq!(kernel.link(TUNNEL).mtu, 1400);
        assert_eq!(kernel.link(TUNNEL).index, tunnel.index, "the same device");
    }

    /// A second one cannot be made under another name, and to go on without one would leave every
    /// route without a device.
    #[test]
    fn a_device_that_was_renamed_gets_its_name_back() {
        let mut kernel = FakeKernel::with_underlay();
        let underlay = kernel.links[0].clone();
        let index = kernel.add_link("stray", KIND);
        let theirs = kernel.add_link("tunl7", KIND);
        kernel.link_mut("tunl7").any_to_any = false;
        let ensure = |kernel: &mut FakeKernel| {
            let links = kernel.links.clone();
            Ipip.ensure(&spec(&underlay, 1440), &links, kernel)
        };
        assert!(ensure(&mut kernel).unwrap());
        assert_eq!(
            (kernel.link(TUNNEL).index, kernel.link(TUNNEL).up),
            (index, true)
        );
        assert_eq!(kernel.link("tunl7").index, theirs, "not ours");

        // Somebody was quicker.
        kernel.link_mut(TUNNEL).name = "stray".into();
        kernel.add_link(TUNNEL, "dummy");
        let error = ensure(&mut kernel).unwrap_err().to_string();
        assert!(error.contains("it is of type dummy"), "{error}");
    }

    #[test]
    fn the_modules_fallback_gives_up_its_name_and_gets_it_back() {
        let mut kernel = FakeKernel::with_underlay();
        let underlay = kernel.links[0].clone();
        let index = kernel.add_link(TUNNEL, KIND);
        kernel.undeletable = Some(index);
        kernel.addresses.push(crate::platform::Address {
            interface: index,
            address: "192.168.1.0/32".parse().unwrap(),
        });

        let links = kernel.links.clone();
        assert!(Ipip.withdraw(&underlay, &links, &mut kernel).unwrap());
        assert_eq!(
            (kernel.link(PARKED).index, kernel.link(PARKED).up),
            (index, false)
        );
        assert!(kernel.addresses.iter().all(|a| a.interface != index));
        let links = kernel.links.clone();
        Ipip.ensure(&spec(&underlay, 1440), &links, &mut kernel)
            .unwrap();
        assert_eq!(
            (kernel.link(TUNNEL).index, kernel.link(TUNNEL).up),
            (index, true)
        );
    }

    #[test]
    fn a_device_that_an_agent_made_goes_with_its_backend() {
        let mut kernel = FakeKernel::with_underlay();
        let underlay = kernel.links[0].clone();
        let links = kernel.links.clone();
        Ipip.ensure(&spec(&underlay, 1440), &links, &mut kernel)
            .unwrap();
        let made = kernel.links.clone();
        assert!(Ipip.withdraw(&underlay, &made, &mut kernel).unwrap());
        assert_eq!(kernel.links, links, "as before");
    }

    #[test]
    fn a_parked_device_gets_its_name_back_when_it_cannot_go() {
        let mut kernel = FakeKernel::with_underlay();
        kernel.undeletable = Some(kernel.add_link(PARKED, KIND));
        kernel.link_mut(PARKED).up = false;
        assert_eq!(clean(&mut kernel).unwrap(), [format!("link {PARKED}")]);
        assert!(!kernel.link(TUNNEL).up);
        assert!(
            clean(&mut kernel).unwrap().is_empty(),
            "as the module makes it"
        );
    }

    #[test]
    fn the_modules_fallback_is_left_down_and_without_addresses() {
        let mut kernel = FakeKernel::with_underlay();
        let index = kernel.add_link(TUNNEL, KIND);
        kernel.undeletable = Some(index);
        kernel.addresses.push(crate::platform::Address {
            interface: index,
            address: "192.168.1.0/32".parse().unwrap(),
        });
        assert!(!clean(&mut kernel).unwrap().is_empty());
        assert!(!kernel.link(TUNNEL).up);
        assert!(kernel.addresses.iter().all(|a| a.interface != index));
        assert!(clean(&mut kernel).unwrap().is_empty());
    }

    #[test]
    fn the_pair_of_another_backend_makes_room() {
        let mut kernel = FakeKernel::with_underlay();
        let underlay = kernel.links[0].clone();
        let links = kernel.links.clone();
        veth::ensure(&veth::TUNNEL_PAIR, 1440, &links, &mut kernel).unwrap();
        let links = kernel.links.clone();
        assert!(
            Ipip.ensure(&spec(&underlay, 1440), &links, &mut kernel)
                .unwrap()
        );
        assert_eq!(kernel.link(TUNNEL).kind, KIND);
        assert!(named(&kernel.links, veth::PEER).is_none());
    }

    #[test]
    fn an_interface_of_somebody_else_is_named_and_left_alone() {
        let mut kernel = FakeKernel::with_underlay();
        let underlay = kernel.links[0].clone();
        kernel.add_link(TUNNEL, "tun");
        let links = kernel.links.clone();
        let error = Ipip
            .ensure(&spec(&underlay, 1440), &links, &mut kernel)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("interface tunl0 exists and is not ours (it is of type tun)")
        );
        assert_eq!(kernel.links, links);
    }
}
