//! What the harness tells of a run: events, packets, matrices, traces, and what it leaves when a
//! test fails.

mod captures;
mod events;
mod expectations;
mod lost;
mod matrix;
mod timeline;
mod trace;

podlab::suite!();
