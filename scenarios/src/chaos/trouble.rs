//! What may go wrong, where, and for whom.

use std::fmt;

/// A thing that goes wrong, with the nodes that it happens to, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Two nodes do not hear each other.
    Partition(usize, usize),
    /// The second node does not hear the first.
    OneWay(usize, usize),
    /// The nodes of two sets do not hear each other.
    Split(Side, Side),
    /// Of what the first sends to the second every so many-th packet is lost.
    Loss(usize, usize, u32),
    /// Something happens to one node.
    At(usize, Local),
    /// The agent of a node ends in the orderly way, and starts at once.
    AgentRestarted(usize),
}

/// A set of nodes, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side(u32);

impl Side {
    /// These nodes; numbers below 32.
    pub fn of(nodes: &[usize]) -> Self {
        Self(nodes.iter().fold(0, |set, node| set | 1 << node))
    }

    /// Them, in the order of their numbers.
    pub fn nodes(self) -> Vec<usize> {
        (0..32).filter(|node| self.has(*node)).collect()
    }

    fn has(self, node: usize) -> bool {
        self.0 & 1 << node != 0
    }
}

/// A thing that goes wrong at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// The node hears nobody.
    Isolated,
    /// The underlay device is down.
    LinkDown,
    /// The underlay device goes down and comes up, again and again.
    Flapping,
    /// The underlay device has no carrier.
    CarrierLost,
    /// The underlay lets so many kbit/s pass of what the node sends.
    Limited(u32),
    /// The underlay has this MTU.
    Narrow(u32),
    /// Something happens on the way to the node; needs `netem`.
    Impaired(Treatment),
    /// The device of the pod is down.
    PodLinkDown,
    /// All processes of the pod are stopped; its kernel answers.
    PodFrozen,
    /// The node has another underlay address.
    Renumbered,
    /// The node is off.
    Crashed,
    /// All processes of the node are stopped.
    Frozen,
    /// Some kernel objects are broken, by this seed.
    Vandalized(u64),
    /// Files of the datastore are nonsense for the node, by this seed.
    DatastoreCorrupt(u64),
    /// The datastore cannot be read on the node.
    DatastoreLost,
    /// The node sees the datastore so many milliseconds later.
    DatastoreSlow(u32),
    /// The disk of the agent is full.
    DiskFull,
    /// The agent is stopped (SIGSTOP).
    AgentFrozen,
    /// The agent is killed.
    AgentKilled,
    /// The agent ends in the orderly way, and starts late.
    AgentLate,
}

/// What is done to packets on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// They come later, by as many milliseconds.
    Delayed(u32),
    /// They come later, by up to twice as many milliseconds, each by another time.
    Jittered(u32),
    /// They come later, by as many milliseconds, and every third one does not.
    Reordered(u32),
    /// They come twice.
    Duplicated,
    /// In every fifth of them a bit is wrong.
    Corrupted,
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What.
    pub kind: Kind,
    /// When it begins, in milliseconds since the chaos has begun.
    pub begins: u64,
    /// When it is healed, counted the same.
    pub ends: u64,
}

impl Kind {
    /// The nodes that it happens to.
    pub fn nodes(self) -> Vec<usize> {
        match self {
            Self::Partition(one, other) | Self::OneWay(one, other) | Self::Loss(one, other, _) => {
                vec![one, other]
            }
            Self::Split(one, other) => [one.nodes(), other.nodes()].concat(),
            Self::At(node, _) | Self::AgentRestarted(node) => vec![node],
        }
    }

    /// Whether it may take packets from pods of one node to those of another, and their answers.
    /// `agents_carry` is whether packets pass through the agents.
    pub fn touches(self, (from, to): (usize, usize), agents_carry: bool) -> bool {
        let there = |node: usize| node == from || node == to;
        match self {
            Self::Partition(one, other) | Self::OneWay(one, other) | Self::Loss(one, other, _) => {
                there(one) && there(other)
            }
            Self::Split(one, other) => {
                one.has(from) && other.has(to) || one.has(to) && other.has(from)
            }
            Self::At(node, local) => there(node) && local.takes_packets(agents_carry),
            Self::AgentRestarted(node) => there(node) && agents_carry,
        }
    }
}

impl Local {
    fn takes_packets(self, agents_carry: bool) -> bool {
        match self {
            // Agents go by the last that they have read, and write nothing that packets need.
            Self::DatastoreLost | Self::DatastoreSlow(_) | Self::DiskFull => false,
            // Pings are answered by the kernel.
            Self::PodFrozen => false,
            Self::Frozen | Self::AgentFrozen | Self::AgentKilled | Self::AgentLate => agents_carry,
            Self::Isolated
            | Self::LinkDown
            | Self::Flapping
            | Self::CarrierLost
            | Self::Limited(_)
            | Self::Narrow(_)
            | Self::Impaired(_)
            | Self::PodLinkDown
            | Self::Renumbered
            | Self::Crashed
            | Self::Vandalized(_)
            // Other values may be as valid as the right ones.
            | Self::DatastoreCorrupt(_) => true,
        }
    }
}

/// `partition n1 ↔ n2`; nodes are n1, n2 and so on.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Partition(one, other) => write!(f, "partition n{} ↔ n{}", one + 1, other + 1),
            Self::OneWay(from, to) => write!(f, "partition n{} → n{}", from + 1, to + 1),
            Self::Split(one, other) => write!(f, "partition {one} ↔ {other}"),
            Self::Loss(from, to, n) => write!(f, "loss of 1 in {n} n{} → n{}", from + 1, to + 1),
            Self::At(node, local) => write!(f, "n{} {local}", node + 1),
            Self::AgentRestarted(node) => write!(f, "n{} agent restarted", node + 1),
        }
    }
}

/// `n1, n2`.
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.nodes().iter().map(|n| format!("n{}", n + 1)).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Isolated => f.write_str("isolated"),
            Self::LinkDown => f.write_str("link down"),
            Self::Flapping => f.write_str("link flapping"),
            Self::CarrierLost => f.write_str("carrier lost"),
            Self::Limited(kilobits) => write!(f, "link of {kilobits} kbit/s"),
            Self::Narrow(mtu) => write!(f, "link of MTU {mtu}"),
            Self::Impaired(treatment) => write!(f, "{treatment}"),
            Self::PodLinkDown => f.write_str("link of its pod down"),
            Self::PodFrozen => f.write_str("processes of its pod frozen"),
            Self::Renumbered => f.write_str("renumbered"),
            Self::Crashed => f.write_str("crashed"),
            Self::Frozen => f.write_str("frozen"),
            Self::Vandalized(seed) => write!(f, "vandalized by seed {seed}"),
            Self::DatastoreCorrupt(seed) => write!(f, "datastore corrupt by seed {seed}"),
            Self::DatastoreLost => f.write_str("datastore unreadable"),
            Self::DatastoreSlow(ms) => write!(f, "datastore late by {ms} ms"),
            Self::DiskFull => f.write_str("disk full"),
            Self::AgentFrozen => f.write_str("agent frozen"),
            Self::AgentKilled => f.write_str("agent killed"),
            Self::AgentLate => f.write_str("agent stopped and late"),
        }
    }
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delayed(ms) => write!(f, "hears all {ms} ms later"),
            Self::Jittered(ms) => write!(f, "hears all up to {} ms later", 2 * ms),
            Self::Reordered(ms) => write!(f, "hears all {ms} ms later, but for 1 in 3"),
            Self::Duplicated => f.write_str("hears all twice"),
            Self::Corrupted => f.write_str("hears 1 in 5 with a wrong bit"),
        }
    }
}
