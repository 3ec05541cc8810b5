//! The two tc programs of `dataplane/bpf/ipip.bpf.c`: loading, attaching and their maps.
//!
//! The programs outlive the agent: a tc filter holds the program and the program its
//! maps, so tunnels keep working while the agent is dead. A new life loads programs and
//! maps of its own, fills them, and then swaps them in place of the old ones, each by a
//! single request that the kernel applies atomically. No packet meets an interface
//! without a program, or a program whose allow-list is not filled yet.

mod allow_list;
mod load;

use std::{collections::BTreeSet, io, net::Ipv4Addr, os::fd::AsFd};

use aya::maps::{Array, MapData, MapError};
use ipnet::Ipv4Net;

use allow_list::{AllowList, MAX_PEERS};
use load::Program;

use crate::mac::Mac;
use crate::platform::{KernelError, Platform, TcFilter};

/// What `tc filter show` calls the programs: that on the tunnel's peer, that on the underlay.
pub(crate) const FILTERS: [&str; 2] = ["podlab-encapsulate", "podlab-decapsulate"];

/// The programs of this life of the agent, in the kernel.
///
/// Dropping the value closes this process' handles and changes nothing for packets:
/// programs that were attached stay attached.
pub(crate) struct Programs {
    encapsulate: Program,
    decapsulate: Program,
    config: Array<MapData, Config>,
    peers: AllowList,
    /// Interface indexes of peer and underlay where this life's filters are.
    attached: BTreeSet<u32>,
}

/// `struct config` of `ipip.bpf.c`, byte by byte.
type Config = [u8; 20];

/// Where the programs are to be attached, and what they need to know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TunnelEnds {
    /// Interface index of `tunl0`.
    pub tunnel: u32,
    /// MAC address of `tunl0`.
    pub mac: Mac,
    /// Interface index of `tunl0`'s veth peer, where `encapsulate` is attached.
    pub peer: u32,
    /// Interface index of the underlay, where `decapsulate` is attached.
    pub underlay: u32,
    /// The node's underlay address: source of what is sent, and the only destination at
    /// which tunnel packets are taken.
    pub node_address: Ipv4Addr,
}

impl TunnelEnds {
    fn config(&self) -> Config {
        let mut config = [0; 20];
        config[..4].copy_from_slice(&self.tunnel.to_ne_bytes());
        config[4..8].copy_from_slice(&self.peer.to_ne_bytes());
        config[8..12].copy_from_slice(&self.node_address.octets());
        config[12..18].copy_from_slice(&self.mac.0);
        config
    }
}

/// What went wrong with the programs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// The embedded object is not what this module expects.
    #[error("reading the embedded BPF object: {detail}\nhint: rebuild it with `make bpf`")]
    Object {
        /// What is wrong with it.
        detail: String,
    },
    /// The kernel did not create a map.
    #[error("creating BPF map {map}\nhint: {hint}")]
    Map {
        map: &'static str,
        hint: String,
        #[source]
        source: Box<MapError>,
    },
    /// The kernel did not take a program.
    #[error("loading BPF program {program}{verifier}\nhint: {hint}")]
    Load {
        program: &'static str,
        /// The last lines of the verifier's log, each on a line of its own; or nothing.
        verifier: String,
        hint: String,
        #[source]
        source: io::Error,
    },
    /// The kernel does not say which program it made.
    #[error("looking up the id of BPF program {program}\nhint: mount /proc")]
    Identify {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    /// A running program does not show its allow-list.
    #[error("looking into BPF program {program}: {detail}")]
    Opaque { program: u32, detail: String },
    /// A map refused a change.
    #[error("{operation} in BPF map {map}")]
    Update {
        map: &'static str,
        operation: String,
        #[source]
        source: Box<MapError>,
    },
    /// More peers than the allow-list holds.
    #[error(
        "{count} peers do not fit into BPF map peers, which holds {MAX_PEERS}\n\
         hint: raise max_entries in dataplane/bpf/ipip.bpf.c and run `make bpf`"
    )]
    TooManyPeers { count: usize },
    /// [`Programs::attach`] came before [`Programs::set_peers`].
    #[error("attaching BPF programs without an allow-list would cut off every peer")]
    PeersUnknown,
    /// The kernel refused a change of its tc filters.
    #[error(transparent)]
    Filter(#[from] KernelError),
}

impl Programs {
    /// Loads the programs into the kernel, with maps of their own that are still empty.
    ///
    /// # Errors
    /// Names what is missing: privileges, or a kernel feature; with the verifier's last
    /// lines where it was the verifier that refused.
    pub(crate) fn load() -> Result<Self, ProgramError> {
        let loaded = load::load()?;
        Ok(Self {
            encapsulate: loaded.encapsulate,
            decapsulate: loaded.decapsulate,
            config: loaded.config,
            peers: AllowList::new(loaded.peers),
            attached: BTreeSet::new(),
        })
    }

    /// Attaches both programs, in place of those that a former life left there, as far as they
    /// are not attached already. Returns whether anything was.
    ///
    /// Can be repeated at any time, with the same ends to repair what somebody else
    /// removed, or with others to follow a change. A filter of this or a former life on an
    /// interface that is not one of the ends is removed.
    ///
    /// # Errors
    /// [`ProgramError::PeersUnknown`] before the first [`Programs::set_peers`]; otherwise
    /// what the kernel objects to.
    pub(crate) fn attach(
        &mut self,
        ends: TunnelEnds,
        platform: &mut dyn Platform,
    ) -> Result<bool, ProgramError> {
        if !self.peers.is_complete() {
            return Err(ProgramError::PeersUnknown);
        }
        let mut changed = self.configure(ends)?;
        let programs = [
            (ends.peer, &self.encapsulate),
            (ends.underlay, &self.decapsulate),
        ];
        for ((interface, program), name) in programs.into_iter().zip(FILTERS) {
            let wanted = TcFilter {
                interface,
                name: name.to_owned(),
                program: program.id,
            };
            if platform.tc_filter(interface)?.as_ref() != Some(&wanted) {
                platform.replace_tc_filter(interface, program.as_fd(), &wanted.name)?;
                changed = true;
            }
        }
        let places = BTreeSet::from([ends.peer, ends.underlay]);
        let mut former = std::mem::replace(&mut self.attached, places);
        if former.is_empty() {
            // The underlay may have been another one in a former life.
            former = holders(platform)?;
        }
        for stale in former.difference(&self.attached) {
            platform.remove_tc_filter(*stale)?;
            changed = true;
        }
        Ok(changed)
    }

    /// Tells the programs what they are attached to, if that is not what they know.
    fn configure(&mut self, ends: TunnelEnds) -> Result<bool, ProgramError> {
        let failed = |operation: &str, source| ProgramError::Update {
            map: "config",
            operation: operation.to_owned(),
            source: Box::new(source),
        };
        let wanted = ends.config();
        let current = self.config.get(&0, 0);
        if current.map_err(|source| failed("reading the tunnel's ends", source))? == wanted {
            return Ok(false);
        }
        let written = self.config.set(0, wanted, 0);
        written.map_err(|source| failed("writing the tunnel's ends", source))?;
        Ok(true)
    }

    /// Removes the filters of every life from every interface.
    ///
    /// For a change to another backend: a `decapsulate` that stays behind would go on taking
    /// the tunnel packets.
    ///
    /// # Errors
    /// What the kernel objects to.
    pub(crate) fn detach_all(platform: &mut dyn Platform) -> Result<(), ProgramError> {
        for interface in holders(platform)? {
            platform.remove_tc_filter(interface)?;
        }
        Ok(())
    }

    /// Makes `peers` the allow-list, while packets flow: additions first, so that no
    /// change of the set cuts off a peer that is in both. Returns whether anything was changed.
    ///
    /// # Errors
    /// [`ProgramError::TooManyPeers`], or what the kernel objects to. The entries changed
    /// up to then stay changed, and the next call carries on from there.
    pub(crate) fn set_peers(&mut self, peers: &BTreeSet<Ipv4Net>) -> Result<bool, ProgramError> {
        self.peers.set(peers)
    }

    /// Looks what the allow-list holds: the kernel does not say when somebody changes it.
    ///
    /// # Errors
    /// What the kernel objects to.
    pub(crate) fn read_peers(&mut self) -> Result<(), ProgramError> {
        self.peers.read()
    }
}

/// The allow-list of a program that runs, of whatever life, by the kernel's number of it.
///
/// # Errors
/// Without the privilege to look into it (CAP_BPF or CAP_SYS_ADMIN), or when it is gone.
pub(crate) fn peers_of(program: u32) -> Result<BTreeSet<Ipv4Net>, ProgramError> {
    load::peers_of(program)
}

/// The interfaces with a filter of ours, of whatever life.
fn holders(platform: &mut dyn Platform) -> Result<BTreeSet<u32>, KernelError> {
    let filters = platform.tc_filters()?;
    Ok(filters.iter().map(|filter| filter.interface).collect())
}

#[cfg(test)]
#[cfg(feature = "netns")]
mod verdicts;

#[cfg(test)]
mod tests {
    use super::*;

    /// By this the next life, and `cleanup`, know whose filters they are.
    #[test]
    fn the_filters_bear_our_mark() {
        let prefix = crate::netlink::filter::NAME_PREFIX;
        assert!(FILTERS.iter().all(|name| name.starts_with(prefix)));
    }

    /// `struct config` of `ipip.bpf.c`, byte by byte.
    #[test]
    fn config_has_the_layout_of_the_c_struct() {
        let ends = TunnelEnds {
            tunnel: 7,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            peer: 6,
            underlay: 2,
            node_address: Ipv4Addr::new(10, 12, 22, 2),
        };
        let mut expected = [
            7, 0, 0, 0, 6, 0, 0, 0, 10, 12, 22, 2, 2, 0, 0, 0, 0, 1, 0, 0,
        ];
        expected[..4].copy_from_slice(&7_u32.to_ne_bytes());
        expected[4..8].copy_from_slice(&6_u32.to_ne_bytes());
        assert_eq!(ends.config(), expected);
    }
}
