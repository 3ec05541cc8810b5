//! The kernel parameters that every machine starts with, whatever the host has.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Machine;
use crate::error::Error;
use crate::namespace::Namespaces;

const ROOT: &str = "/proc/sys/net";

/// A new network namespace inherits IPv4 parameters from the host's. Tests must not: these are
/// the kernel's own defaults.
const IPV4_DEFAULTS: [(&str, &str); 5] = [
    ("rp_filter", "0"),
    ("proxy_arp", "0"),
    ("arp_ignore", "0"),
    ("arp_announce", "0"),
    ("arp_filter", "0"),
];

/// How often the kernel repeats what a socket that was closed, or whose process was killed, has left
/// to send: for 3 seconds, not for 100. All that time such a socket holds its network namespace, and
/// nobody will answer it when the other machines were killed with it.
const ORPHANS: (&str, &str) = ("ipv4/tcp_orphan_retries", "3");

/// Where they exist only: the host may be without IPv6 or `br_netfilter`.
///
/// IPv6 off before any device is made keeps the wires quiet (no router solicitations, MLD,
/// duplicate address detection). `default` alone, so that `lo`, which is there already, has its ::1:
/// to write `all` takes RTNL, see [`TURN`]. Bridged frames must not pass the IP filter: that is a
/// habit of container hosts, not of a switch.
const OPTIONAL: [(&str, &str); 2] = [
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("bridge/bridge-nf-call-iptables", "0"),
];

/// One machine after the other: while anybody on the host holds RTNL, the kernel's lock for changes of
/// devices and routes, a thread that changes `ip_forward`, and before Linux 6.9 `disable_ipv6`, does
/// not sleep; the kernel has it try again at once (`restart_syscall` in devinet_sysctl_forward and
/// addrconf_disable_ipv6). Several of them take every processor from whom they wait for.
static TURN: Mutex<()> = Mutex::new(());

/// Sets the defaults inside `namespaces`.
pub(super) fn set_defaults(
    namespaces: &Namespaces,
    machine: &str,
    forwarding: bool,
) -> Result<(), Error> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The path follows the thread that opens it, see Namespaces::run.
    let result = namespaces.run(|| -> Result<(), (PathBuf, io::Error)> {
        // Must come first: a change of ip_forward resets other parameters.
        write("ipv4/ip_forward", if forwarding { "1" } else { "0" })?;
        write(ORPHANS.0, ORPHANS.1)?;
        for (name, value) in IPV4_DEFAULTS {
            for scope in ["all", "default"] {
                write(&format!("ipv4/conf/{scope}/{name}"), value)?;
            }
        }
        for (name, value) in OPTIONAL {
            match write(name, value) {
                Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    })?;
    result.map_err(|(path, source)| Error::Sysctl {
        machine: machine.to_owned(),
        path,
        source,
    })
}

impl Machine {
    /// Sets an IPv4 parameter of one device: `net/ipv4/conf/DEVICE/NAME`.
    pub(crate) fn set_device_parameter(
        &self,
        device: &str,
        name: &str,
        value: &str,
    ) -> Result<(), Error> {
        self.set_parameter(&format!("conf/{device}/{name}"), value)
    }

    /// Sets an IPv4 parameter by its name below `net/ipv4`.
    pub(crate) fn set_parameter(&self, name: &str, value: &str) -> Result<(), Error> {
        let path = format!("ipv4/{name}");
        let result = self.namespaces().run(|| write(&path, value))?;
        result.map_err(|(path, source)| Error::Sysctl {
            machine: self.name().to_owned(),
            path,
            source,
        })
    }
}

impl Machine {
    /// Reads IPv4 parameters by their names below `net/ipv4`; those that there are.
    pub(crate) fn parameters(&self, names: Vec<String>) -> Result<BTreeMap<String, String>, Error> {
        let read = || {
            let values = names.into_iter().filter_map(|name| {
                let path = Path::new(ROOT).join("ipv4").join(&name);
                let value = std::fs::read_to_string(path).ok()?;
                Some((name, value.trim().to_owned()))
            });
            values.collect()
        };
        Ok(self.live()?.namespaces().run(read)?)
    }
}

fn write(name: &str, value: &str) -> Result<(), (PathBuf, io::Error)> {
    let path = Path::new(ROOT).join(name);
    std::fs::write(&path, value).map_err(|error| (path, error))
}
