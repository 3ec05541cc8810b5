//! Podlab boots multi-node pod networks out of Linux namespaces.

pub mod agent;
pub mod capture;
pub mod cluster;
pub mod datastore;
mod error;
pub mod eventually;
pub mod machine;
mod namespace;
pub mod netlink;
pub mod packet;
pub mod patience;
pub mod probe;
pub mod process;
mod route_table;
pub mod spec;

pub use cluster::{BootReport, Cluster, Container, Node, Pod};
pub use error::Error;
pub use machine::Machine;
pub use namespace::sandbox;

/// What the macros of this crate expand to; no part of its face.
#[doc(hidden)]
pub mod __private {
    pub use ctor;
}
