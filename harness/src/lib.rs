//! Podlab boots multi-node pod networks out of Linux namespaces.

pub(crate) mod namespace;
pub(crate) mod netlink;
