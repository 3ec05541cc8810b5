//! The seed document's network, asserted fact by fact.
//!
//! Every test boots a cluster of its own: three nodes, four pods, the real agent in each node.

mod http;
mod packets;
mod ping;
mod routes;
mod witnesses;

podlab::suite!();
