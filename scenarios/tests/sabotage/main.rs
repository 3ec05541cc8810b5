//! The harness on broken networks: everything that is broken must be noticed, and named.

mod broken;

podlab::suite!();
