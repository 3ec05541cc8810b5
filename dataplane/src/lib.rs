//! podlab-agent.
mod agent;
mod apply;
pub mod cli;
pub mod datastore;
pub mod desired;
mod doctor;
mod encap;
mod failure;
#[cfg(test)]
mod fixtures;
pub mod mac;
mod netlink;
mod notices;
mod notify;
pub mod platform;
mod report;
mod sysctl;
