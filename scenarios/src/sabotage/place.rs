//! Places on the way from the one pod to the other.

use std::fmt;

use podlab::trace::Point;

use super::World;
use crate::seed::{TEST_TOOLS, TUNNEL, UNDERLAY, WORKER_1, WORKER_2};

/// A place on the way of the probe. *Near* is the sender's node, *far* the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The device of the pod that sends.
    Sender,
    /// The node's side of its veth pair.
    NearCali,
    /// The tunnel device of its node.
    NearTunnel,
    /// The underlay interface of its node.
    NearUnderlay,
    /// The port of its node in the fabric.
    NearPort,
    /// The port of the other node in the fabric.
    FarPort,
    /// The underlay interface of the other node.
    FarUnderlay,
    /// The tunnel device of the other node.
    FarTunnel,
    /// The other node's side of the other pod's veth pair.
    FarCali,
}

impl Place {
    /// Where that is in a cluster.
    pub(super) fn point(self, world: &World) -> Point {
        let (near, far) = (world.near.name(), world.far.name());
        match self {
            Self::Sender => Point::new(world.from.name(), "eth0"),
            Self::NearCali => Point::new(near, world.from.host_interface()),
            Self::NearTunnel => Point::new(near, TUNNEL),
            Self::NearUnderlay => Point::new(near, world.near.underlay()),
            Self::NearPort => Point::new(world.cluster.fabric().name(), world.near.fabric_port()),
            Self::FarPort => Point::new(world.cluster.fabric().name(), world.far.fabric_port()),
            Self::FarUnderlay => Point::new(far, world.far.underlay()),
            Self::FarTunnel => Point::new(far, TUNNEL),
            Self::FarCali => Point::new(far, world.to.host_interface()),
        }
    }
}

/// With the names of the document's cluster.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sender => write!(f, "{TEST_TOOLS}/eth0"),
            Self::NearCali => write!(f, "{WORKER_1}/cali…"),
            Self::NearTunnel => write!(f, "{WORKER_1}/{TUNNEL}"),
            Self::NearUnderlay => write!(f, "{WORKER_1}/{UNDERLAY}"),
            Self::NearPort => write!(f, "fabric/{WORKER_1}"),
            Self::FarPort => write!(f, "fabric/{WORKER_2}"),
            Self::FarUnderlay => write!(f, "{WORKER_2}/{UNDERLAY}"),
            Self::FarTunnel => write!(f, "{WORKER_2}/{TUNNEL}"),
            Self::FarCali => write!(f, "{WORKER_2}/cali…"),
        }
    }
}
