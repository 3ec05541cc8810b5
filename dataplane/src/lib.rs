//! `podlab-agent`: programs Calico's IPIP mode into the kernel of one node.
//!
//! # What it does
//!
//! The agent reads a directory of JSON files ([`datastore`]) that tells of pools, nodes and
//! pods, computes what its node's kernel has to hold ([`desired`], a pure function), compares
//! that with what the kernel reports and writes the difference, again and again: whenever a file
//! changes, whenever the kernel says that something which concerns it changed, and every 90
//! seconds for good measure. When it ends, by signal or by accident, the network stays as it is,
//! and the next life takes it over.
//!
//! ```
//! use podlab_dataplane::datastore::Snapshot;
//! use podlab_dataplane::desired::{Desired, Target};
//!
//! let mut snapshot = Snapshot::default();
//! snapshot.pools.insert("default".into(), serde_json::from_str(
//!     r#"{"cidr":"192.168.0.0/16","block_size":24,"encapsulation":"always"}"#,
//! )?);
//! for (name, node) in [
//!     ("a", r#"{"address":"10.0.0.1/24","tunnel_address":"192.168.1.0","blocks":["192.168.1.0/24"]}"#),
//!     ("b", r#"{"address":"10.0.0.2/24","tunnel_address":"192.168.2.0","blocks":["192.168.2.0/24"]}"#),
//! ] {
//!     snapshot.nodes.insert(name.into(), serde_json::from_str(node)?);
//! }
//! let desired = Desired::compute(&snapshot, "a")?;
//! assert_eq!(desired.routes[&"192.168.1.0/24".parse()?], Target::Blackhole);
//! assert_eq!(desired.routes[&"192.168.2.0/24".parse()?], Target::Tunnel([10, 0, 0, 2].into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it is built
//!
//! - `agent`: the one loop;
//! - [`datastore`]: files, their last good content, what changed;
//! - [`desired`]: the state to bring the kernel to, without knowing any interface's index;
//! - `apply`: what is missing and what is stale, and in which order to write it;
//! - `filter`: what the node takes and under which source it leaves, as one nftables table;
//! - `encap`: the backends that make the tunnel, behind one trait;
//! - [`platform`]: what all of that asks of the kernel, as small traits;
//! - `netlink`, `sysctl`: the kernel's answers;
//! - `ops`: health, metrics, `status` and `cleanup` for those who run it.
//!
//! Invariant: only `netlink` speaks netlink, and nothing outside `encap` knows which backend is at
//! work.

mod agent;
mod apply;
pub mod cli;
mod compare;
pub mod datastore;
pub mod desired;
mod doctor;
mod encap;
mod failure;
mod filter;
#[cfg(test)]
mod fixtures;
pub mod mac;
mod mtu_file;
mod netlink;
mod notices;
mod notify;
mod offload;
mod ops;
pub mod platform;
mod report;
mod sysctl;
