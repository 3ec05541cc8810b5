//! The one module of this crate that speaks netlink.
//!
//! Messages come from and go to rtnetlink's types; they travel over a socket of our own that
//! waits for the kernel's answer. The kernel works on a request before `send` returns, so there
//! is nothing to gain from waiting elsewhere, the traits of [`platform`](crate::platform) stay
//! plain functions, and many requests fit into one `send`.

mod address;
pub(crate) mod events;
pub(crate) mod features;
pub(crate) mod filter;
mod link;
pub(crate) mod lookup;
mod neighbour;
mod parameters;
mod redirect;
mod route;
mod rulesets;
mod socket;
pub(crate) mod tables;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use crate::filter::nft;
use crate::offload;
use crate::platform::{Joining, KernelError, Link, Nftables, Sysctls};
use crate::sysctl::ProcSys;
use socket::Socket;

/// The kernel of the network namespace that the process is in.
pub(crate) struct Kernel {
    socket: Socket,
    sysctls: ProcSys,
}

impl Kernel {
    /// # Errors
    /// When there is no netlink, or no file descriptor left.
    pub(crate) fn new() -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::new()?,
            sysctls: ProcSys,
        })
    }

    /// The kernel's name for the one who sends our requests; what they cause carries it.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }
}

impl Sysctls for Kernel {
    fn set(&mut self, path: &str, value: &str) -> Result<bool, KernelError> {
        self.sysctls.set(path, value)
    }
}

impl Joining for Kernel {
    fn join(
        &mut self,
        segments: &Link,
        joined: &Link,
        hold: Duration,
    ) -> Result<bool, KernelError> {
        offload::join(segments, joined, hold)
    }

    fn cut_udp(&mut self, link: &Link) -> Result<bool, KernelError> {
        offload::cut_udp(link)
    }

    fn redirect(&mut self, from: u32, to: u32) -> Result<bool, KernelError> {
        redirect::ensure(&mut self.socket, from, to)
    }
}

impl Nftables for Kernel {
    fn generation(&mut self) -> Result<u32, KernelError> {
        features::nftables()
            .map_err(|error| failed("ask for the generation of", "nf_tables", error))
    }

    fn load(&mut self, script: &str) -> Result<(), KernelError> {
        nft::load(script)
    }

    fn list(&mut self, table: &str) -> Result<Option<String>, KernelError> {
        nft::list(table)
    }
}

fn failed(operation: &'static str, object: impl Into<String>, source: io::Error) -> KernelError {
    KernelError {
        operation,
        object: object.into(),
        message: String::new(),
        source,
    }
}

/// The name of an interface for a message; its index when it is gone.
pub(crate) fn name_of(index: u32) -> String {
    nix::net::if_::if_indextoname(index)
        .ok()
        .and_then(|name| name.into_string().ok())
        // What the C library says of an interface that is gone.
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("#{index}"))
}
