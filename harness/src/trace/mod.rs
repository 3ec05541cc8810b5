//! The way of one packet through the cluster, there and back.
//!
//! [`Cluster::trace`](crate::Cluster::trace) sends one marked probe while every device is tapped,
//! and tells what became of it: the [`Hop`]s with their headers and time stamps, what every machine
//! on the way decided, and whether all of it was as the specification wants it.
//!
//! The probe is known again by its payload, so it is followed through any encapsulation, also one
//! that the packet decoder does not know. What the way should be follows from the specification
//! alone: where the pods are, what the pools say of encapsulation. The agents are not asked.

mod assemble;
mod cause;
mod compare;
mod decide;
mod diagnose;
mod endpoint;
mod evidence;
mod hop;
mod instruments;
mod mark;
mod misled;
mod point;
mod probe;
mod refused;
mod request;
mod session;
mod show;
mod taps;
#[cfg(test)]
mod tests;
mod topology;

use std::io;
use std::net::Ipv4Addr;

pub use cause::{Cause, Diagnosis};
pub use endpoint::Endpoint;
pub use evidence::{Moved, NftVerdict};
pub use hop::{Decision, Hop, Leg};
pub use point::{Point, Stretch};
pub use probe::{Outcome, ProbeKind};
pub use request::TraceRequest;

use compare::Finding;
use topology::Topology;

use crate::capture::Recording;

/// What became of one probe.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The sender's name.
    pub from: String,
    /// The target's name, or its address where nobody in the cluster has it.
    pub to: String,
    /// The probe in a few words: `ping`, `TCP SYN to port 8080`.
    what: String,
    /// The probe at every device that saw it, in the order of time. ICMP errors about the answer
    /// are among them.
    pub there: Vec<Hop>,
    /// The answer, and ICMP errors about the probe.
    pub back: Vec<Hop>,
    /// How it ended for the sender.
    pub outcome: Outcome,
    verdict: Verdict,
    finding: Option<Finding>,
    diagnosis: Option<Diagnosis>,
    lossy_taps: Vec<(Point, u64)>,
    recordings: Vec<Recording>,
}

/// What became of a probe, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived, the answer came back, and both passed every device as they should.
    Delivered,
    /// It, or the answer, did not arrive.
    Lost(Leg),
    /// Something on this leg was not as it should be, and the packet got through all the same, or
    /// got where nothing should get through.
    Anomalous(Leg),
}

/// Why a trace could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Nobody in the cluster has the address that the probe is to be sent from.
    #[error(
        "cannot send a probe from {address}: no pod, no node and not the fabric has it\n\
         hint: add the address to the fabric, or begin at a pod or a node"
    )]
    NoSender {
        /// The address.
        address: Ipv4Addr,
    },
    /// The probe's sockets failed.
    #[error("cannot send a probe from {machine}: {source}")]
    Probe {
        /// The sender.
        machine: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Trace {
    /// What became of the probe.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Where the first thing went wrong: after which device, and at which it showed. `None` for
    /// a probe that was delivered as it should be.
    pub fn stretch(&self) -> Option<&Stretch> {
        self.finding.as_ref().map(|finding| &finding.stretch)
    }

    /// What is wrong, and where: `None` for a probe that was delivered as it should be.
    pub fn diagnosis(&self) -> Option<&Diagnosis> {
        self.diagnosis.as_ref()
    }

    /// The devices whose captures lost packets, and how many: what was not seen there may have
    /// been there.
    pub fn lossy_taps(&self) -> &[(Point, u64)] {
        &self.lossy_taps
    }

    /// Everything that passed the taps meanwhile, also what has nothing to do with the probe: one
    /// recording per device, in which there may be no packets.
    pub fn recordings(&self) -> &[Recording] {
        &self.recordings
    }

    /// It arrived, was answered, and nothing on the way was wrong.
    pub fn is_delivered(&self) -> bool {
        self.verdict == Verdict::Delivered
    }
}

impl crate::Cluster {
    /// What the paths of this cluster are worked out from.
    async fn topology(&self) -> Topology {
        let ports = self.nodes().into_iter();
        let ports = ports.map(|node| (node.name().to_owned(), node.fabric_port()));
        Topology {
            plan: self.plan().await,
            ports: ports.collect(),
            tunnel: self.tunnel_device(),
        }
    }
}
