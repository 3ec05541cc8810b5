//! Chaos: troubles in an order that a seed decides, while every pod probes every other.
//!
//! What has to hold is the same for every seed: once all is healed the cluster is as before, no pair
//! whose path nobody touched has lost a packet, and no agent has ended by itself.

mod begin;
mod ordeal;
mod schedule;
mod trouble;

pub use ordeal::{Endured, Ordeal};
pub use schedule::{Act, NODES, Schedule};
pub use trouble::{Kind, Local, Side, Treatment, Trouble};
