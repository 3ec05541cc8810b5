//! Turns a specification into a plan, or into the list of everything that is wrong with it.

mod nodes;
mod pods;
mod pools;
mod underlays;

use ipnet::Ipv4Net;

use super::fields::Check;
use super::{ClusterSpec, Plan, SpecError};

/// The size of the IPv4 header that IPIP puts around a packet.
const OUTER_HEADER: u32 = 20;

impl ClusterSpec {
    /// Checks the whole specification and fills in every default.
    pub(crate) fn plan(&self) -> Result<Plan, SpecError> {
        let mut check = Check::default();
        let pools = check.pools(self);
        let mut nodes = check.nodes(self, &pools);
        let underlays = check.underlays(self, &mut nodes);
        let pods = check.pods(self, &nodes, &pools);
        if self.nodes.is_empty() {
            check.faults.add(
                "cluster",
                "it has no nodes",
                "add one with .node(name, |n| …)",
            );
        }
        if check.faults.0.is_empty() {
            Ok(Plan {
                underlays,
                pools,
                nodes,
                pods,
            })
        } else {
            Err(SpecError {
                faults: check.faults.0,
            })
        }
    }

    /// Checks the specification as [`Cluster::builder`](crate::Cluster::builder) would at boot.
    ///
    /// # Errors
    /// Every fault that there is, each with the name of the thing and a hint.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.plan().map(drop)
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}
