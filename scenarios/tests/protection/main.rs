//! What a node does not let through: tunnel packets of strangers, forged sources, sources that
//! nobody could answer to. For every encapsulation that this kernel offers.
//!
//! A number in a test's name is that of the entry in the list of scenarios of Calico's agent.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy sees tests by #[test] alone"
)]

mod by_hand;
mod nat;
mod pods;
mod senders;
mod setup;
mod table;

podlab::suite!();
