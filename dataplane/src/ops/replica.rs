//! A copy of the kernel's state: written to like a kernel, while the kernel stays as it is.
//!
//! To see what a pass *would* do is to let it do it here. There is no second opinion on what is
//! desired that could differ from the agent's own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::platform::*;

/// See the module. Only what passes ask for is modelled.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
    pub tc_filters: Vec<TcFilter>,
    /// Those that were set here, by path: the kernel's value and the one that was set.
    pub sysctls: BTreeMap<String, (String, String)>,
    proc_sys: PathBuf,
    /// How often packet filters were written.
    generation: u32,
}

impl Replica {
    /// What `platform` has now, with sysctls from the folder `proc_sys`.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub(crate) fn of(
        platform: &mut dyn Platform,
        proc_sys: impl Into<PathBuf>,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            links: platform.links()?,
            addresses: platform.addresses()?,
            routes: platform.routes()?,
            neighbours: platform.neighbours()?,
            tc_filters: platform.tc_filters()?,
            sysctls: BTreeMap::new(),
            proc_sys: proc_sys.into(),
            generation: 0,
        })
    }

    /// The interface called `name`.
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    fn new_link(&mut self, name: &str, kind: &str, mtu: u32) -> u32 {
        let highest = self.links.iter().map(|link| link.index).max();
        let index = highest.unwrap_or(0) + 1;
        self.links.push(Link {
            index,
            name: name.to_owned(),
            kind: kind.to_owned(),
            mtu,
            up: false,
            arp: false,
            mac: None,
            peer: None,
            any_to_any: kind == "ipip",
        });
        index
    }
}

/// Packet filters are not compared: whatever is written here is taken for what the kernel has.
impl Nftables for Replica {
    fn generation(&mut self) -> Result<u32, KernelError> {
        Ok(self.generation)
    }

    fn load(&mut self, _script: &str) -> Result<(), KernelError> {
        self.generation += 1;
        Ok(())
    }

    fn list(&mut self, _table: &str) -> Result<Option<String>, KernelError> {
        Ok(None)
    }
}

impl Links for Replica {
    fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        Ok(self.links.clone())
    }

    fn create(&mut self, link: &NewLink) -> Result<(), KernelError> {
        match link {
            NewLink::Ipip { name } => {
                self.new_link(name, "ipip", 0);
            }
            NewLink::Veth { name, peer, mtu } => {
                let one = self.new_link(name, "veth", *mtu);
                let other = self.new_link(peer, "veth", *mtu);
                for link in &mut self.links {
                    match link.index {
                        index if index == one => link.peer = Some(other),
                        index if index == other => link.peer = Some(one),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, index: u32, change: &LinkChange) -> Result<(), KernelError> {
        for link in self.links.iter_mut().filter(|link| link.index == index) {
            if let Some(name) = &change.name {
                link.name.clone_from(name);
            }
            link.mtu = change.mtu.unwrap_or(link.mtu);
            link.up = change.up.unwrap_or(link.up);
            link.arp = change.arp.unwrap_or(link.arp);
        }
        Ok(())
    }

    fn await_carrier(&mut self, _index: u32) -> Result<(), KernelError> {
        Ok(())
    }

    fn remove(&mut self, index: u32) -> Result<(), KernelError> {
        self.links
            .retain(|link| link.index != index && link.peer != Some(index));
        Ok(())
    }

    fn supports(&mut self, _kind: &str) -> Result<(), KernelError> {
        Ok(())
    }
}

impl Addresses for Replica {
    fn addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        Ok(self.addresses.clone())
    }

    fn add_address(&mut self, address: &Address) -> Result<(), KernelError> {
        self.addresses.push(*address);
        Ok(())
    }

    fn remove_address(&mut self, address: &Address) -> Result<(), KernelError> {
        self.addresses.retain(|other| other != address);
        Ok(())
    }
}

/// What a route is replaced by.
pub(crate) fn route_key(route: &Route) -> (u32, ipnet::Ipv4Net, u32, u8) {
    (route.table, route.destination, route.metric, route.tos)
}

impl Routes for Replica {
    fn routes(&mut self) -> Result<Vec<Route>, KernelError> {
        Ok(self.routes.clone())
    }

    /// No pass does it.
    fn add_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        self.replace_routes(routes)
    }

    fn replace_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        for route in routes {
            self.routes
                .retain(|other| route_key(other) != route_key(route));
            self.routes.push(route.clone());
        }
        Vec::new()
    }

    fn remove_routes(&mut self, routes: &[Route]) -> Vec<KernelError> {
        self.routes.retain(|other| !routes.contains(other));
        Vec::new()
    }
}

impl Neighbours for Replica {
    fn neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError> {
        Ok(self.neighbours.clone())
    }

    fn replace_neighbours(&mut self, neighbours: &[Neighbour]) -> Vec<KernelError> {
        for new in neighbours {
            let key = |n: &Neighbour| (n.interface, n.address);
            self.neighbours.retain(|other| key(other) != key(new));
            self.neighbours.push(*new);
        }
        Vec::new()
    }

    fn remove_neighbours(&mut self, neighbours: &[Neighbour]) -> Vec<KernelError> {
        self.neighbours.retain(|other| !neighbours.contains(other));
        Vec::new()
    }
}

impl Sysctls for Replica {
    fn set(&mut self, path: &str, value: &str) -> Result<bool, KernelError> {
        let read = |source: io::Error| KernelError {
            operation: "read sysctl",
            object: path.replace('/', "."),
            message: String::new(),
            source,
        };
        let actual = fs::read_to_string(self.proc_sys.join(path)).map_err(read)?;
        let actual = actual.trim_end().to_owned();
        let differs = actual != value;
        let both = (actual, value.to_owned());
        self.sysctls.insert(path.to_owned(), both);
        Ok(differs)
    }
}

impl TcFilters for Replica {
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
        self.tc_filters
            .retain(|filter| filter.interface != interface);
        Ok(())
    }
}

/// What it depends on is not copied, and no pass asks for it here.
impl Joining for Replica {
    fn cut_udp(&mut self, _: &Link) -> Result<bool, KernelError> {
        Ok(false)
    }

    fn join(&mut self, _: &Link, _: &Link, _: Duration) -> Result<bool, KernelError> {
        Ok(false)
    }

    fn redirect(&mut self, _: u32, _: u32) -> Result<bool, KernelError> {
        Ok(false)
    }
}
