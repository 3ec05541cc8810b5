//! What may go wrong, where, and for whom.

use std::fmt;

/// A thing that goes wrong, with the nodes that it happens to, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Two nodes do not hear each other.
    Partition(usize, usize),
    /// The second node does not hear the first.
    OneWay(usize, usize),
    /// Of what the first sends to the second every so many-th packet is lost.
    Loss(usize, usize, u32),
    /// The node hears nobody.
    Isolated(usize),
    /// The underlay device is down.
    LinkDown(usize),
    /// The underlay device has no carrier.
    CarrierLost(usize),
    /// The device of the pod is down.
    PodLinkDown(usize),
    /// The node has another underlay address.
    Renumbered(usize),
    /// The node is off.
    Crashed(usize),
    /// Files of the datastore are nonsense for the node, by this seed.
    DatastoreCorrupt(usize, u64),
    /// The datastore cannot be read on the node.
    DatastoreLost(usize),
    /// All processes of the node are stopped.
    Frozen(usize),
    /// The agent is stopped (SIGSTOP).
    AgentFrozen(usize),
    /// The agent is killed.
    AgentKilled(usize),
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
            Self::Isolated(node)
            | Self::LinkDown(node)
            | Self::CarrierLost(node)
            | Self::PodLinkDown(node)
            | Self::Renumbered(node)
            | Self::Crashed(node)
            | Self::DatastoreCorrupt(node, _)
            | Self::DatastoreLost(node)
            | Self::Frozen(node)
            | Self::AgentFrozen(node)
            | Self::AgentKilled(node) => vec![node],
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
            // Agents go by the last that they have read.
            Self::DatastoreLost(_) => false,
            Self::Frozen(node) | Self::AgentFrozen(node) | Self::AgentKilled(node) => {
                agents_carry && there(node)
            }
            Self::Isolated(node)
            | Self::LinkDown(node)
            | Self::CarrierLost(node)
            | Self::PodLinkDown(node)
            | Self::Renumbered(node)
            | Self::Crashed(node)
            // Other values may be as valid as the right ones.
            | Self::DatastoreCorrupt(node, _) => there(node),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nodes are n1, n2 and so on.
        match *self {
            Self::Partition(one, other) => write!(f, "partition n{} ↔ n{}", one + 1, other + 1),
            Self::OneWay(from, to) => write!(f, "partition n{} → n{}", from + 1, to + 1),
            Self::Loss(from, to, n) => {
                write!(f, "loss of 1 in {n} n{} → n{}", from + 1, to + 1)
            }
            Self::Isolated(node) => write!(f, "n{} isolated", node + 1),
            Self::LinkDown(node) => write!(f, "n{} link down", node + 1),
            Self::CarrierLost(node) => write!(f, "n{} carrier lost", node + 1),
            Self::PodLinkDown(node) => write!(f, "p{} link down", node + 1),
            Self::Renumbered(node) => write!(f, "n{} renumbered", node + 1),
            Self::Crashed(node) => write!(f, "n{} crashed", node + 1),
            Self::DatastoreCorrupt(node, seed) => {
                write!(f, "n{} datastore corrupt by seed {seed}", node + 1)
            }
            Self::DatastoreLost(node) => write!(f, "n{} datastore unreadable", node + 1),
            Self::Frozen(node) => write!(f, "n{} frozen", node + 1),
            Self::AgentFrozen(node) => write!(f, "n{} agent frozen", node + 1),
            Self::AgentKilled(node) => write!(f, "n{} agent killed", node + 1),
        }
    }
}
