//! Faults: what goes wrong in networks, as verbs on handles.
//!
//! A verb puts a fault in and returns a [`Fault`]; [`Fault::heal`] is its exact inverse. Whoever
//! forgets one loses nothing: [`Cluster::heal_all`](crate::Cluster::heal_all) heals what is left,
//! the last one first and agents after all else, and whatever is not healed goes with the cluster.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! use podlab::fault::{Direction, Loss};
//!
//! let cut = cluster.partition(["k8s-worker-1"], ["k8s-worker-2"]).await?;
//! // … what holds while the two do not hear each other …
//! cut.heal().await?;
//!
//! cluster.pod("web")?.wire()?.lose(Direction::In, Loss::every(3)).await?;
//! cluster.node("k8s-worker-1")?.wire()?.lose_carrier().await?;
//! cluster.heal_all().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | where | faults |
//! |---|---|
//! | [`Cluster`](crate::Cluster) | partitions between sets of nodes or networks, loss between nodes |
//! | [`Wire`] of a node or pod | down, flapping, without carrier, lossy, slow, impaired, narrow |
//! | [`Node`](crate::Node) | isolated, frozen, crashed; another address; agent frozen, killed, late; datastore away, late, corrupt; disk full; a vandal |
//! | [`Pod`](crate::Pod) | frozen |
//! | [`Machine`](crate::Machine) | a device down |
//!
//! Every fault is told in the event log when it is put in and when it is healed. One that cannot
//! be put in fails at once and says why ([`FaultError`]), also when it would change nothing: a
//! link that is down already, a fault that is there already.
//!
//! Loss is counted, never drawn: the same packets are lost in every run ([`Loss`]). It needs
//! nftables; a limited rate needs the queueing discipline `tbf`, and what is timed (delay, jitter,
//! reordering, duplicates, corruption: [`Impairment`]) needs `netem`.

mod agent;
mod datastore;
mod disk;
mod error;
mod fabric;
mod guard;
mod ingress;
mod link;
mod loss;
mod mtu;
mod node;
mod partition;
mod random;
mod registry;
mod shape;
mod vandal;
mod view;
mod wire;

pub use error::FaultError;
pub use guard::Fault;
pub use loss::{Flow, Loss};
pub use random::Random;
pub use shape::{Impairment, Rate};
pub use vandal::Vandalism;
pub use wire::{Direction, Wire};

pub(crate) use registry::Faults;
pub(crate) use wire::{End, Kind as WireKind};
