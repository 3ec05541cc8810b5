//! The encapsulation backends: what must be true of each, and of nodes that use different ones.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy sees tests by #[test] alone"
)]

mod agents;
mod each;
mod ipip_device;
mod odd_packets;
mod pairs;
mod rates;
mod traffic;

podlab::suite!();
