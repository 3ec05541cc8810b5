//! What those who run the agent rely on: health, metrics, status, cleanup, and that neither a
//! restart nor a harmless change is noticed. Numbered names follow the list of Felix' own tests.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy sees tests by #[test] alone"
)]

mod cleanup;
mod harmless_change;
mod health;
mod logs;
mod ownership;
mod program;
mod repair;
mod restart;
mod status;

podlab::suite!();
