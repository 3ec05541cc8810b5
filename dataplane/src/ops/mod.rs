//! What the people who run the agent need of it: whether it is well, what it did, what it left.
//!
//! - [`health`]: whether the loop turns and whether the kernel holds what it should;
//! - [`metrics`]: the same in numbers;
//! - [`listen`], [`server`]: where and how both are asked for;
//! - [`replica`]: a kernel to try things on;
//! - [`status`]: desired against actual;
//! - [`cleanup`]: removes what the agent has made.

pub(crate) mod cleanup;
pub(crate) mod health;
pub(crate) mod listen;
pub(crate) mod metrics;
pub(crate) mod replica;
pub(crate) mod server;
pub(crate) mod status;

use std::sync::Arc;

use health::Health;
use metrics::Metrics;

/// What the loop tells of itself, and the endpoint answers from.
///
/// The loop never waits for who reads it, and a reader never for the loop: a pass may take
/// seconds, and a scrape must then still be answered.
#[derive(Clone, Default)]
pub(crate) struct Vitals {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
}
