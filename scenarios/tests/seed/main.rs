//! The seed document's network, asserted fact by fact.
//!
//! Every test boots a cluster of its own: three nodes, four pods, the real agent in each node.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy sees tests by #[test] alone"
)]

mod http;
mod packets;
mod ping;
mod routes;
mod witnesses;

podlab::suite!();
