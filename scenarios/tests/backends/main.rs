//! The encapsulation backends: what must be true of each, and of nodes that use different ones.

mod agents;
mod each;
mod life;
mod odd_packets;
mod pairs;
mod rates;
mod traffic;

podlab::suite!();
