//! What the harness tells of a run: events, packets, matrices, traces, and what it leaves when a
//! test fails.

mod agreement;
mod bundle;
mod captures;
mod events;
mod expectations;
mod keep;
mod lost;
mod matrix;
mod timeline;
mod trace;

podlab::suite!();
