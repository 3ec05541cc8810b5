//! Captures on real packet sockets: filters as the kernel applies them, what metadata says, that
//! nothing is lost.
//!
//! Everything here happens on `lo` (and one TUN device) of the sandbox.
#![cfg(feature = "netns")]
#![allow(
    clippy::unwrap_used,
    reason = "what fails outside the tests proper fails the test too"
)]

mod completeness;
mod filters;
#[path = "../frames/mod.rs"]
mod frames;
mod life;
mod metadata;
mod support;
mod waiting;

podlab::sandbox!();
