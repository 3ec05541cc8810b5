//! What the agent asks of its kernel: typed values and small traits.
//!
//! The modules `netlink` and `sysctl` answer in earnest, a fake in
//! memory answers in unit tests. Only IPv4 is spoken of.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::mac::Mac;

/// The kernel refused something.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}{}", words(message))]
pub struct KernelError {
    /// What was tried, as in `replace route`.
    pub operation: &'static str,
    /// With what, in the notation of `ip`.
    pub object: String,
    /// The kernel's extended acknowledgement, empty when it gave none.
    pub message: String,
    /// Its error code.
    pub source: io::Error,
}

fn words(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

impl KernelError {
    /// Whether it is the caller's privileges, not the request, that the kernel objects to.
    #[must_use]
    pub fn is_privilege(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `ipip`, `veth` and so on; empty for hardware.
    pub kind: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Whether neighbours are asked for by ARP.
    pub arp: bool,
    /// Ethernet address, for interfaces that have one.
    pub mac: Option<Mac>,
    /// Index of the other end of a veth pair, if that is in the same network namespace.
    pub peer: Option<u32>,
    /// A tunnel without local and remote address (`external` is another thing). The kernel has one
    /// of each kind at most.
    pub any_to_any: bool,
}

/// An interface to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewLink {
    /// `ipip` without local or remote address, `ttl inherit nopmtudisc`.
    Ipip {
        /// Its name.
        name: String,
    },
    /// Both ends of a veth pair, without ARP, still down.
    Veth {
        /// Name of one end.
        name: String,
        /// Name of the other end.
        peer: String,
        /// MTU of both ends in bytes.
        mtu: u32,
    },
}

/// What to change on an interface; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// New name; the interface has to be down.
    pub name: Option<String>,
    /// New MTU in bytes.
    pub mtu: Option<u32>,
    /// Up or down.
    pub up: Option<bool>,
    /// With or without ARP.
    pub arp: Option<bool>,
}

/// An IPv4 address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Index of the interface.
    pub interface: u32,
    /// Address and prefix length, host bits kept.
    pub address: Ipv4Net,
}

/// A permanent entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Index of the interface.
    pub interface: u32,
    /// The neighbour's IPv4 address.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// What the kernel does with packets that match a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends them on.
    Unicast,
    /// Drops them.
    Blackhole,
    /// Anything else that can stand in a table (unreachable, prohibit, throw …).
    Other,
}

/// Table that forwarding looks into.
pub const MAIN_TABLE: u32 = 254;

/// An IPv4 route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix.
    pub destination: Ipv4Net,
    /// Routing table.
    pub table: u32,
    /// Metric; with destination, table and tos it identifies the route.
    pub metric: u32,
    /// Type of service to match, 0 for any.
    pub tos: u8,
    /// Who made it (`proto`).
    pub protocol: u8,
    /// What it does.
    pub kind: RouteKind,
    /// Whether the destination is a link away (`scope link`) or further.
    pub link_scope: bool,
    /// Next hop.
    pub gateway: Option<Ipv4Addr>,
    /// Index of the interface.
    pub interface: Option<u32>,
    /// The gateway is taken to be on the link whatever the addresses say.
    pub onlink: bool,
    /// MTU towards the destination, if the route sets one.
    pub mtu: Option<u32>,
    /// It has more to it than these fields tell: several next hops, a preferred source,
    /// an encapsulation, other metrics.
    pub extras: bool,
}

/// In the notation of `ip route`, interfaces by their index.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Blackhole => write!(f, "blackhole ")?,
            RouteKind::Other => write!(f, "special ")?,
        }
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(interface) = self.interface {
            write!(f, " dev #{interface}")?;
        }
        write!(f, " proto {}", self.protocol)?;
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

/// Network interfaces.
pub trait Links {
    /// All of them.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn links(&mut self) -> Result<Vec<Link>, KernelError>;
    /// Makes one.
    ///
    /// # Errors
    /// When the kernel refuses, as it does when the name is taken.
    fn create(&mut self, link: &NewLink) -> Result<(), KernelError>;
    /// Changes the one with this index.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn change(&mut self, index: u32, change: &LinkChange) -> Result<(), KernelError>;
    /// Returns when one that is up can send. Of a veth pair the end that came up first cannot yet
    /// when the other has come up: it drops what it is given until the kernel's own background
    /// work has noticed the carrier. Gives up after a second, as after an end that was taken
    /// down by somebody else.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn await_carrier(&mut self, index: u32) -> Result<(), KernelError>;
    /// Removes the one with this index, and its peer if it has one.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn remove(&mut self, index: u32) -> Result<(), KernelError>;
    /// Asks whether interfaces of a kind can be made, without making one. The kernel may load a
    /// module to answer.
    ///
    /// # Errors
    /// The kernel's reason why not.
    fn supports(&mut self, kind: &str) -> Result<(), KernelError>;
}

/// IPv4 addresses of interfaces.
pub trait Addresses {
    /// All of them.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn addresses(&mut self) -> Result<Vec<Address>, KernelError>;
    /// Adds one, with global scope.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn add_address(&mut self, address: &Address) -> Result<(), KernelError>;
    /// Removes one.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn remove_address(&mut self, address: &Address) -> Result<(), KernelError>;
}

/// IPv4 routes.
pub trait Routes {
    /// All routes of all tables, except those the kernel keeps for its own addresses.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn routes(&mut self) -> Result<Vec<Route>, KernelError>;
    /// Adds each, unless there is one with the same destination, table, metric and tos. Returns an
    /// error for each that was refused; the others are in place.
    fn add_routes(&mut self, routes: &[Route]) -> Vec<KernelError>;
    /// Puts each in the place of the one with the same destination, table, metric and tos.
    /// Returns an error for each that was refused; the others are in place.
    fn replace_routes(&mut self, routes: &[Route]) -> Vec<KernelError>;
    /// Removes each. One that is gone already is no error.
    fn remove_routes(&mut self, routes: &[Route]) -> Vec<KernelError>;
}

/// Permanent neighbours.
pub trait Neighbours {
    /// All permanent ones.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError>;
    /// Adds them or changes their Ethernet address.
    fn replace_neighbours(&mut self, neighbours: &[Neighbour]) -> Vec<KernelError>;
    /// Removes them. One that is gone already is no error.
    fn remove_neighbours(&mut self, neighbours: &[Neighbour]) -> Vec<KernelError>;
}

/// Values below `/proc/sys`.
pub trait Sysctls {
    /// Gives the sysctl at `path`, as in `net/ipv4/ip_forward`, a value, unless it has it
    /// already. Returns whether it was written.
    ///
    /// # Errors
    /// When it cannot be read or written.
    fn set(&mut self, path: &str, value: &str) -> Result<bool, KernelError>;
    /// The same where the kernel has such a sysctl; where it has none, that is as good.
    ///
    /// # Errors
    /// When it cannot be read or written.
    fn set_if_present(&mut self, path: &str, value: &str) -> Result<bool, KernelError> {
        match self.set(path, value) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other,
        }
    }
}

/// Packet filter and address translation by nftables.
pub trait Nftables {
    /// A number that grows by one with every transaction on the rulesets, whoever makes it.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or refuses.
    fn generation(&mut self) -> Result<u32, KernelError>;
    /// Applies a script in the language of `nft -f` as one transaction.
    ///
    /// # Errors
    /// What `nft` complains of; with a source of kind `NotFound` only when there is no `nft`.
    fn load(&mut self, script: &str) -> Result<(), KernelError>;
    /// A table of family ip as `nft` prints it, without counters; `None` when there is none.
    ///
    /// # Errors
    /// The same.
    fn list(&mut self, table: &str) -> Result<Option<String>, KernelError>;
}

/// A tc filter of the agent's: a BPF program that sees what comes in on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcFilter {
    /// Index of the interface.
    pub interface: u32,
    /// What `tc filter show` calls it.
    pub name: String,
    /// The kernel's number of the program.
    pub program: u32,
}

/// The one place for a tc filter that the agent has at the ingress of every interface.
pub trait TcFilters {
    /// The filters in those places that are the agent's, of whatever life.
    ///
    /// # Errors
    /// When the kernel does not tell.
    fn tc_filters(&mut self) -> Result<Vec<TcFilter>, KernelError>;
    /// The one on this interface. None is there, either, when the interface is gone.
    ///
    /// # Errors
    /// When the kernel does not tell.
    fn tc_filter(&mut self, interface: u32) -> Result<Option<TcFilter>, KernelError>;
    /// Puts `program` there, in the place of what may be there; no packet passes in between.
    ///
    /// # Errors
    /// What the kernel objects to.
    fn replace_tc_filter(
        &mut self,
        interface: u32,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), KernelError>;
    /// Removes it; it is no error if there is none, or if the interface itself is gone.
    ///
    /// # Errors
    /// What the kernel objects to.
    fn remove_tc_filter(&mut self, interface: u32) -> Result<(), KernelError>;
}

/// Super-packets on veth pairs: where the kernel joins segments to them, and where it cuts them.
pub trait Joining {
    /// Makes the kernel cut UDP super-packets before it gives them to `link`, where it could not
    /// describe them to a program that reads them there. Returns whether anything was changed.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn cut_udp(&mut self, link: &Link) -> Result<bool, KernelError>;
    /// Makes `joined` join what is sent into `segments`, its peer, and hold it for `hold`.
    /// Returns whether anything was changed.
    ///
    /// # Errors
    /// When the kernel refuses, or has no such offload.
    fn join(&mut self, segments: &Link, joined: &Link, hold: Duration)
    -> Result<bool, KernelError>;
    /// Sends what comes in on the interface `from` out of the interface `to`, as it is and past
    /// everything else. Returns whether anything was changed.
    ///
    /// # Errors
    /// When the kernel refuses, or lacks the tc filter.
    fn redirect(&mut self, from: u32, to: u32) -> Result<bool, KernelError>;
}

/// Everything at once.
pub trait Platform:
    Links + Addresses + Routes + Neighbours + Sysctls + Nftables + TcFilters + Joining
{
}

impl<T: Links + Addresses + Routes + Neighbours + Sysctls + Nftables + TcFilters + Joining> Platform
    for T
{
}
