//! A kernel in memory, as far as the agent uses one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::mac::Mac;
use crate::platform::*;

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeKernel {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
    pub tc_filters: Vec<TcFilter>,
    pub sysctls: BTreeMap<String, String>,
    /// Interfaces that join what they receive.
    pub joining: Vec<u32>,
    /// The interface that gets no UDP super-packets.
    pub cutting_udp: Option<u32>,
    /// Where to packets that come in on an interface go at once.
    pub redirects: BTreeMap<u32, u32>,
    /// The last script for nftables.
    pub ruleset: Option<String>,
    pub generation: u32,
    /// An interface that the kernel keeps without saying so: the ipip module's fallback.
    pub undeletable: Option<u32>,
    /// Whether an interface that is up can be renamed, as since Linux 6.2.
    pub renames_live: bool,
    /// What was written, in order.
    pub log: Vec<String>,
}

impl FakeKernel {
    /// `ens192`, up, MTU 1500, with the address of the seed's worker 1.
    pub(crate) fn with_underlay() -> Self {
        let mut kernel = Self::default();
        kernel
            .sysctls
            .insert("net/ipv4/ip_forward".into(), "0".into());
        let interface = kernel.add_link("ens192", "");
        kernel.addresses.push(Address {
            interface,
            address: "10.12.22.2/16".parse().unwrap(),
        });
        kernel
    }

    /// An interface that is up. Returns its index.
    pub(crate) fn add_link(&mut self, name: &str, kind: &str) -> u32 {
        let index = self.links.iter().map(|link| link.index).max().unwrap_or(0) + 1;
        let mac = Some(Mac([2, 0, 0, 0, 0, index as u8]));
        let any_to_any = kind == "ipip";
        let (name, kind) = (name.to_owned(), kind.to_owned());
        self.links.push(Link {
            index,
            name,
            kind,
            mtu: 1500,
            up: true,
            arp: true,
            mac,
            peer: None,
            any_to_any,
        });
        index
    }

    pub(crate) fn link(&self, name: &str) -> &Link {
        self.links
            .iter()
            .find(|link| link.name == name)
            .expect(name)
    }

    pub(crate) fn link_mut(&mut self, name: &str) -> &mut Link {
        self.links
            .iter_mut()
            .find(|link| link.name == name)
            .expect(name)
    }

    /// Routes as text, one line each, sorted.
    pub(crate) fn route_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.routes.iter().map(Route::to_string).collect();
        lines.sort();
        lines
    }
}

fn refused(operation: &'static str, object: &str, errno: i32) -> KernelError {
    let source = io::Error::from_raw_os_error(errno);
    KernelError {
        operation,
        object: object.into(),
        message: String::new(),
        source,
    }
}

impl Links for FakeKernel {
    fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        Ok(self.links.clone())
    }

    fn create(&mut self, link: &NewLink) -> Result<(), KernelError> {
        self.log.push(format!("create {link:?}"));
        let (NewLink::Ipip { name } | NewLink::Veth { name, .. }) = link;
        let ipip = matches!(link, NewLink::Ipip { .. });
        let taken = |other: &Link| other.name == *name || ipip && other.any_to_any;
        if self.links.iter().any(taken) {
            return Err(refused("create link", name, nix::libc::EEXIST));
        }
        match link {
            NewLink::Ipip { name } => {
                self.add_link(name, "ipip");
                self.link_mut(name).up = false;
            }
            NewLink::Veth { name, peer, mtu } => {
                let (a, b) = (self.add_link(name, "veth"), self.add_link(peer, "veth"));
                for (end, other) in [(name, b), (peer, a)] {
                    let end = self.link_mut(end);
                    (end.mtu, end.up, end.arp, end.peer) = (*mtu, false, false, Some(other));
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, index: u32, change: &LinkChange) -> Result<(), KernelError> {
        self.log.push(format!("change link {index}"));
        let link = self
            .links
            .iter_mut()
            .find(|link| link.index == index)
            .unwrap();
        if change.name.is_some() && link.up && !self.renames_live {
            return Err(refused("change link", &link.name, nix::libc::EBUSY));
        }
        link.name = change.name.clone().unwrap_or_else(|| link.name.clone());
        link.mtu = change.mtu.unwrap_or(link.mtu);
        link.up = change.up.unwrap_or(link.up);
        link.arp = change.arp.unwrap_or(link.arp);
        Ok(())
    }

    fn await_carrier(&mut self, _index: u32) -> Result<(), KernelError> {
        Ok(())
    }

    fn remove(&mut self, index: u32) -> Result<(), KernelError> {
        self.log.push(format!("remove link {index}"));
        if self.undeletable == Some(index) {
            return Ok(());
        }
        self.links
            .retain(|link| link.index != index && link.peer != Some(index));
        // As the kernel does with an interface that is gone.
        let left: Vec<u32> = self.links.iter().map(|link| link.index).collect();
        self.addresses.retain(|a| left.contains(&a.interface));
        self.neighbours.retain(|n| left.contains(&n.interface));
        self.routes
            .retain(|route| route.interface.is_none_or(|index| left.contains(&index)));
        Ok(())
    }

    fn supports(&mut self, _kind: &str) -> Result<(), KernelError> {
        Ok(())
    }
}

impl Addresses for FakeKernel {
    fn addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        Ok(self.addresses.clone())
    }

    fn add_address(&mut self, address: &Address) -> Result<(), KernelError> {
        self.log.push(format!("add {}", address.address));
        self.addresses.push(*address);
        Ok(())
    }

    fn remove_address(&mut self, address: &Address) -> Result<(), KernelError> {
        self.log.push(format!("remove {}", address.address));
        self.addresses.retain(|other| other != address);
        // As the kernel does with the last one.
        if !self
            .addresses
            .iter()
            .any(|other| other.interface == address.interface)
        {
            self.routes
                .retain(|route| route.interface != Some(address.interface));
        }
        Ok(())
    }
}

fn key(route: &Route) -> (ipnet::Ipv4Net, u32, u32, u8) {
    (route.destination, route.table, route.metric, route.tos)
}

impl Routes for FakeKernel {
    fn routes(&mut self) -> Result<Vec<Route>, KernelError> {
        Ok(self.routes.clone())
    }

    fn add_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        let mut errors = Vec::new();
        for route in routes {
            self.log.push(format!("add {route}"));
            match self.routes.iter().any(|other| key(other) == key(route)) {
                true => errors.push(refused("add route", &route.to_string(), nix::libc::EEXIST)),
                false => self.routes.push(route.clone()),
            }
        }
        errors
    }

    fn replace_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        for route in routes {
            self.log.push(format!("replace {route}"));
            match self
                .routes
                .iter_mut()
                .find(|other| key(other) == key(route))
            {
                Some(other) => *other = route.clone(),
                None => self.routes.push(route.clone()),
            }
        }
        Vec::new()
    }

    fn remove_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        for route in routes {
            self.log.push(format!("remove {route}"));
            self.routes.retain(|other| other != route);
        }
        Vec::new()
    }
}

impl Neighbours for FakeKernel {
    fn neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError> {
        Ok(self.neighbours.clone())
    }

    fn replace_neighbours(&mut self, neighbours: &[Neighbour]) -> Vec<KernelError> {
        for new in neighbours {
            self.log.push(format!("replace neighbour {}", new.address));
            self.neighbours
                .retain(|n| (n.interface, n.address) != (new.interface, new.address));
            self.neighbours.push(*new);
        }
        Vec::new()
    }

    fn remove_neighbours(&mut self, neighbours: &[Neighbour]) -> Vec<KernelError> {
        for old in neighbours {
            self.log.push(format!("remove neighbour {}", old.address));
        }
        self.neighbours.retain(|n| !neighbours.contains(n));
        Vec::new()
    }
}

impl Sysctls for FakeKernel {
    fn set(&mut self, path: &str, value: &str) -> Result<bool, KernelError> {
        let Some(current) = self.sysctls.get_mut(path) else {
            return Err(refused("read sysctl", path, nix::libc::ENOENT));
        };
        if current == value {
            return Ok(false);
        }
        self.log.push(format!("{path}={value}"));
        *current = value.into();
        Ok(true)
    }
}

impl Nftables for FakeKernel {
    fn generation(&mut self) -> Result<u32, KernelError> {
        Ok(self.generation)
    }

    fn load(&mut self, script: &str) -> Result<(), KernelError> {
        self.log.push("load ruleset".into());
        self.ruleset = Some(script.into());
        self.generation += 1;
        Ok(())
    }

    fn list(&mut self, _table: &str) -> Result<Option<String>, KernelError> {
        self.log.push("list ruleset".into());
        Ok(self.ruleset.clone())
    }
}

impl Joining for FakeKernel {
    fn cut_udp(&mut self, link: &Link) -> Result<bool, KernelError> {
        self.cutting_udp = Some(link.index);
        Ok(false)
    }

    fn join(&mut self, segments: &Link, joined: &Link, _: Duration) -> Result<bool, KernelError> {
        assert_eq!(segments.peer, Some(joined.index));
        if self.joining.contains(&joined.index) {
            return Ok(false);
        }
        self.joining.push(joined.index);
        Ok(true)
    }

    fn redirect(&mut self, from: u32, to: u32) -> Result<bool, KernelError> {
        Ok(self.redirects.insert(from, to) != Some(to))
    }
}

impl TcFilters for FakeKernel {
    fn tc_filters(&mut self) -> Result<Vec<TcFilter>, KernelError> {
        Ok(self.tc_filters.clone())
    }

    fn tc_filter(&mut self, interface: u32) -> Result<Option<TcFilter>, KernelError> {
        let mut all = self.tc_filters.iter();
        Ok(all.find(|filter| filter.interface == interface).cloned())
    }

    fn replace_tc_filter(
        &mut self,
        interface: u32,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), KernelError> {
        self.log.push(format!("attach {name} to {interface}"));
        self.tc_filters
            .retain(|filter| filter.interface != interface);
        self.tc_filters.push(TcFilter {
            interface,
            name: name.to_owned(),
            program: program.as_raw_fd().cast_unsigned(),
        });
        Ok(())
    }

    fn remove_tc_filter(&mut self, interface: u32) -> Result<(), KernelError> {
        self.log.push(format!("detach from {interface}"));
        self.tc_filters
            .retain(|filter| filter.interface != interface);
        Ok(())
    }
}
