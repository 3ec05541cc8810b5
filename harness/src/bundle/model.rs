//! What a bundle contains, as `bundle.json` has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::Item;
use super::bpf::ProgramState;
use super::sockets::SocketState;
use crate::backlog;
use crate::event::{Attachment, Event};
use crate::netlink::{
    Address, Link, Neighbour, QdiscState, Rule, Statistics, TableRoute, TrafficFilter,
};
use crate::spec::ClusterSpec;
use crate::trace::{Leg, Stretch};

/// The version of the format of `bundle.json`. Fields may be added without a new one.
pub const VERSION: u32 = 1;

/// Everything that is known of a failed test.
#[derive(Debug, Serialize)]
pub struct Bundle {
    /// `podlab-bundle`.
    pub format: &'static str,
    /// [`VERSION`].
    pub version: u32,
    /// The test, with the program that it is part of.
    pub test: String,
    /// Which attempt at it this was, from 1.
    pub attempt: u32,
    /// When it failed, in nanoseconds since 1970.
    pub failed_at_ns: u64,
    /// How long the collection took, in milliseconds.
    pub collected_in_ms: u64,
    /// What it failed with, unchanged.
    pub error: String,
    /// What is wrong with the network, in one line, where that was found out.
    pub diagnosis: Option<String>,
    /// The kernel that it ran on.
    pub kernel: String,
    /// The files of the test's own capture sets, in the folder of the bundle.
    pub captures: Vec<Item<String>>,
    /// The clusters that there were when it failed, in the order of their boots.
    pub clusters: Vec<ClusterState>,
}

impl Bundle {
    /// That this machine was too slow for its packets, where it was. All clusters are on this one
    /// machine: that of the longest time has seen the most.
    pub(super) fn slow(&self) -> Option<String> {
        let dropped = self.clusters.iter().map(|state| state.backlog_dropped);
        dropped.max().and_then(backlog::told)
    }
}

/// A cluster.
#[derive(Debug, Serialize)]
pub struct ClusterState {
    /// Its number in the process; its events have the same.
    pub number: u64,
    /// What it was specified to be, with all changes since.
    pub spec: Item<ClusterSpec>,
    /// Its fabric, nodes and pods, in this order.
    pub machines: Vec<MachineState>,
    /// Paths and contents of the datastore's files.
    pub datastore: Item<BTreeMap<String, String>>,
    /// What happened, until the test failed.
    pub events: Vec<Arc<Event>>,
    /// Results of matrices and timelines of the test, the last of each.
    pub results: Vec<Attachment>,
    /// How many older events were not kept.
    pub events_lost: u64,
    /// The faults that were in force when the test failed.
    pub faults: Vec<String>,
    /// Whether all of them could be healed before the machines were read; nothing where there were
    /// none, or they were to stay.
    pub healing: Option<Item<()>>,
    /// Packets that the kernel threw away since the boot because no processor had time for them, of
    /// all networks of the machine: where there are any, the network need not be to blame.
    pub backlog_dropped: u64,
    /// The pair on which the test failed, and what the wire saw when it was asked once more.
    pub pair: Option<PairState>,
    /// Who reached whom when the faults were healed.
    pub reachability: Item<Reachability>,
}

/// A machine.
#[derive(Debug, Serialize)]
pub struct MachineState {
    /// Its name.
    pub name: String,
    /// `fabric`, `node` or `pod`.
    pub role: crate::event::Role,
    /// A pod's node.
    pub node: Option<String>,
    /// A pod's address, a node's address on the underlay.
    pub address: Option<String>,
    /// Devices that tie it to others: a node's underlay, a pod's `cali…`.
    pub attached_by: Option<String>,
    /// The other end of a node's underlay device, in the fabric.
    pub fabric_port: Option<String>,
    /// A node's blocks of pod addresses.
    pub blocks: Vec<String>,
    /// A node's agent.
    pub agent: Option<AgentState>,
    /// Its devices with what they have counted.
    pub links: Item<Vec<LinkState>>,
    /// Its IPv4 addresses.
    pub addresses: Item<Vec<Address>>,
    /// Its IPv4 routes of all tables.
    pub routes: Item<Vec<TableRoute>>,
    /// Its IPv4 rules.
    pub rules: Item<Vec<Rule>>,
    /// Its IPv4 neighbours.
    pub neighbours: Item<Vec<Neighbour>>,
    /// Its packet filter with counters, as `nft list ruleset` prints it.
    pub nft: Item<String>,
    /// Its queueing disciplines.
    pub qdiscs: Item<Vec<QdiscState>>,
    /// Its tc filters.
    pub filters: Item<Vec<TrafficFilter>>,
    /// The BPF programs of its filters with their maps.
    pub programs: Item<Vec<ProgramState>>,
    /// The kernel parameters that decide what happens to packets.
    pub sysctls: Item<BTreeMap<String, String>>,
    /// The protocol counters that have counted anything.
    pub counters: Item<BTreeMap<String, u64>>,
    /// Its sockets.
    pub sockets: Item<Vec<SocketState>>,
    /// Its processes.
    pub processes: Item<Vec<ProcessState>>,
}

/// A device with its counters.
#[derive(Debug, Serialize)]
pub struct LinkState {
    /// The device.
    #[serde(flatten)]
    pub link: Link,
    /// What it has counted.
    pub statistics: Statistics,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessState {
    /// Its number in the sandbox.
    pub id: i32,
    /// Its state in the kernel's word: `S (sleeping)`, `T (stopped)`.
    pub state: String,
    /// Its command line.
    pub command: String,
}

/// An agent.
#[derive(Debug, Serialize)]
pub struct AgentState {
    /// Whether the harness has it running.
    pub running: bool,
    /// Its process in the sandbox.
    pub process: Option<u32>,
    /// The encapsulation that it chose, and why.
    pub encapsulation: String,
    /// Why it chose that one.
    pub why: String,
    /// Everything that it has written.
    pub log: Item<String>,
    /// What it says of wanted and actual state, where it has a command for that.
    pub status: Option<Item<String>>,
}

/// Two machines, of which one did not reach the other.
#[derive(Debug, Serialize)]
pub struct PairState {
    /// Who asked.
    pub from: String,
    /// Who was asked: a name where the address belongs to somebody, else the address.
    pub to: String,
    /// The address that was asked.
    pub address: std::net::Ipv4Addr,
    /// How it failed in the test.
    pub failure: String,
    /// The way of one more probe, sent before any fault was healed.
    pub trace: Item<TraceState>,
}

/// The way of a probe.
#[derive(Debug, Serialize)]
pub struct TraceState {
    /// Whether it was delivered and answered, and nothing on the way was wrong.
    pub arrived: bool,
    /// What became of it: `lost on the way there`.
    pub verdict: String,
    /// How it ended for the sender.
    pub outcome: String,
    /// Where and why it went wrong, in one line.
    pub diagnosis: String,
    /// The machine at fault.
    pub machine: Option<String>,
    /// What else was seen that belongs to it: counters that moved, errors that came back.
    pub notes: Vec<String>,
    /// Taps that lost packets, and how many: what was not seen there may have been there.
    pub lossy_taps: Vec<(String, u64)>,
    /// On which way it went wrong.
    pub wrong: Option<Leg>,
    /// Where it went wrong.
    pub stretch: Option<Stretch>,
    /// The devices of the way, `machine/device`, in their order.
    pub taps: Vec<String>,
    /// The probe and what answered it at every device that saw one, in the order of time.
    pub hops: Vec<HopState>,
    /// All of it as text.
    pub text: String,
}

/// A packet at one device.
#[derive(Debug, Serialize)]
pub struct HopState {
    /// Nanoseconds since the probe was seen first.
    pub at_ns: u64,
    /// `machine/device`.
    pub tap: String,
    /// `in` or `out`, as the machine sees it.
    pub direction: &'static str,
    /// Whether it goes there or back.
    pub leg: Leg,
    /// It is an ICMP error about the packet of the other direction.
    pub is_error: bool,
    /// It is for this machine, or for whoever it forwards to; not merely flooded by a switch.
    pub addressed: bool,
    /// Its IPv4 headers, the outermost first.
    pub headers: Vec<Header>,
    /// The length of the outermost IPv4 packet in bytes.
    pub length: usize,
    /// What tcpdump would print.
    pub text: String,
    /// What the machine decided for it.
    pub decision: Option<String>,
}

/// The addresses of an IPv4 header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// From whom.
    pub source: std::net::Ipv4Addr,
    /// To whom.
    pub destination: std::net::Ipv4Addr,
    /// The time to live.
    pub ttl: u8,
}

/// Who reaches whom by a ping.
#[derive(Debug, Serialize)]
pub struct Reachability {
    /// The machines.
    pub machines: Vec<String>,
    /// `cells[from][to]`; nothing from a machine to itself.
    pub cells: Vec<Vec<Option<Cell>>>,
    /// How many machines were left out, because there are too many.
    pub left_out: usize,
}

/// How a ping went.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Answered: the ttl of the answer, and the time in milliseconds.
    Reached {
        /// The answer's ttl on arrival.
        ttl: u8,
        /// The time to the answer.
        ms: f64,
    },
    /// Not answered, and why.
    Lost {
        /// Why.
        why: String,
    },
}
