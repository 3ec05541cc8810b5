//! A cluster that changes while it runs: modes, nodes, pods, addresses, blocks, MTUs.
//!
//! `item_NN` in a test's name is the number of the entry in the list of Calico's own IPIP tests
//! that it covers: 2 MTU, 3 mode and tunnel address, 5 the blackhole, 6 the node's address on
//! another interface, 7 a node without an address, 9 borrowed addresses, 11 pod interfaces and
//! conflicting claims.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy sees tests by #[test] alone"
)]

mod blocks;
mod borrowed;
mod claims;
mod fit;
mod modes;
mod mtu;
mod nodes;
mod pairs;
mod pods;
mod pools;
mod stream;
mod verbs;
mod world;

podlab::suite!();
