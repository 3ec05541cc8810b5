//! What the harness and the agent promise beside the seed's facts: isolation, bad input, life.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy sees tests by #[test] alone"
)]

mod agent_life;
mod bad_input;
mod features;
mod isolation;
mod machines;
mod tables;

podlab::suite!();
