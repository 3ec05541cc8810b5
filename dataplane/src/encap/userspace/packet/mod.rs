//! Packets, without any socket: everything here is a function of bytes.
//!
//! ```text
//! frame from tunl0-x ── encapsulate ── split ──► outer packets
//! outer packets ── decapsulate ── coalesce ──► frames for tunl0-x
//! ```

pub(super) mod checksum;
pub(super) mod coalesce;
pub(super) mod connection;
pub(super) mod decapsulate;
pub(super) mod ecn;
pub(super) mod encapsulate;
pub(super) mod frame;
pub(super) mod ipv4;
pub(super) mod split;
pub(super) mod transport;
pub(super) mod vnet;

#[cfg(test)]
mod tests;
