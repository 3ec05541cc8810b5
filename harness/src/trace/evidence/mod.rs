//! What is collected where a probe was lost: plain values, so that the diagnosis is a pure
//! function of them.

pub(super) mod collect;
pub(super) mod counters;
pub(super) mod drop_reason;
pub(super) mod nft_trace;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub use counters::Moved;
pub use nft_trace::NftVerdict;

use super::hop::Decision;
use super::point::Point;
use crate::netlink::{Link, Neighbour, Route, Rule, TableRoute};

/// Everything that was collected about one probe.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// The machines at both ends of the stretch on which it went wrong, and those whose hardware
    /// addresses matter there.
    pub(super) machines: BTreeMap<String, MachineState>,
    /// What the machine decides for the packet as it was last seen.
    pub(super) decision: Option<Decision>,
    /// What it decides for the outer packet that it should have made of it.
    pub(super) outer_decision: Option<Decision>,
    /// Packet filters that dropped the probe.
    pub(super) verdicts: Vec<NftVerdict>,
    /// Counters of losses that moved while a probe was lost.
    pub(super) counters: Vec<Moved>,
    /// Reasons for which the kernel dropped packets just after the probe was last seen.
    pub(super) drops: Vec<String>,
    /// Where the probe was to go, and its size in bytes.
    pub(super) destination: Option<Ipv4Addr>,
    pub(super) size: usize,
    /// What could not be looked at, and why.
    pub(super) notes: Vec<String>,
    /// Addresses that were asked for by ARP and not answered, and on which device.
    pub(super) unanswered: Vec<(Point, Ipv4Addr)>,
}

/// What the kernel has of one machine.
#[derive(Debug, Clone, Default)]
pub(super) struct MachineState {
    pub(super) links: Vec<Link>,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) rules: Vec<Rule>,
    /// Of all tables: those that the rules lead to.
    pub(super) routes: Vec<TableRoute>,
    pub(super) parameters: Parameters,
}

/// Kernel parameters by name below `net/ipv4`, such as `conf/eth0/rp_filter`.
pub(super) type Parameters = BTreeMap<String, String>;

impl MachineState {
    pub(super) fn link(&self, device: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == device)
    }

    /// A parameter is there and zero.
    pub(super) fn is_off(&self, parameter: &str) -> bool {
        self.parameters
            .get(parameter)
            .is_some_and(|value| value == "0")
    }

    /// A parameter is there and not zero.
    pub(super) fn is_on(&self, parameter: &str) -> bool {
        self.parameters
            .get(parameter)
            .is_some_and(|value| value != "0")
    }

    /// The route of the main table that a destination takes: the longest prefix.
    pub(super) fn route_to(&self, destination: Ipv4Addr) -> Option<&Route> {
        /// linux/rtnetlink.h, `RT_TABLE_MAIN`.
        const MAIN: u32 = 254;
        let main = self.routes.iter().filter(|entry| entry.table == MAIN);
        let matching = main
            .map(|entry| &entry.route)
            .filter(|route| route.destination.contains(&destination));
        matching.max_by_key(|route| {
            let length = route.destination.prefix_len();
            (length, std::cmp::Reverse(route.metric))
        })
    }
}

impl Evidence {
    pub(super) fn machine(&self, name: &str) -> Option<&MachineState> {
        self.machines.get(name)
    }

    pub(super) fn link(&self, point: &Point) -> Option<&Link> {
        self.machine(&point.machine)?.link(&point.device)
    }
}
