//! Faults: what each does to packets, by count, and that nothing of it stays once it is healed.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy sees tests by #[test] alone"
)]

mod datastore;
mod every_kind;
mod frozen;
mod links;
mod loss;
mod nodes;
mod partition;
mod refused;
mod registry;
mod shape;
mod size;
mod vandal;
mod world;

podlab::suite!();
