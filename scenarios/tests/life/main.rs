//! The agent's life: crashes, restarts, upgrades and changes of mind, and what they cost the pods
//! that talk meanwhile. For every encapsulation backend.
//!
//! `item_NN` in a test's name is the number of the entry in the list of Calico's own IPIP tests.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy sees tests by #[test] alone"
)]

mod agents;
mod connection;
mod former;
mod matrix;
mod modes;
mod peers;
mod phase;
mod restart;

podlab::suite!();
