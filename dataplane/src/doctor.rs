//! `podlab-agent doctor`: what this kernel offers, without changing anything.

use std::fs::{self, OpenOptions};
use std::process::ExitCode;

use inotify::Inotify;

use crate::encap::{self, Choice};
use crate::filter::nft;
use crate::netlink::{Kernel, features};
use crate::report;

type Answer = Result<String, String>;

/// CAP_NET_ADMIN in linux/capability.h.
const NET_ADMIN: u32 = 12;

/// Prints one line for each question. Succeeds when the agent could run here.
pub(crate) fn print() -> ExitCode {
    let privilege = net_admin();
    let sysctls = sysctls();
    let (backends, auto) = backends();
    let could_run = privilege.is_ok() && sysctls.is_ok() && auto.is_some();

    line("CAP_NET_ADMIN", &privilege);
    line("IPv4 sysctls writable", &sysctls);
    for (name, answer) in &backends {
        line(&format!("backend {name}"), answer);
    }
    line("nftables", &nftables());
    line("inotify", &notifications());
    match auto {
        Some((name, why)) => println!("--encap auto takes {name} ({why})"),
        None => println!("--encap auto takes none (no backend works here)"),
    }
    if could_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    }
}

fn line(what: &str, answer: &Answer) {
    match answer {
        Ok(reason) => println!("{what}: yes ({reason})"),
        Err(reason) => println!("{what}: no ({reason})"),
    }
}

type Backends = Vec<(&'static str, Answer)>;

/// Every backend's own answer, and what `auto` makes of them.
fn backends() -> (Backends, Option<(&'static str, String)>) {
    let mut kernel = match Kernel::new() {
        Ok(kernel) => kernel,
        Err(error) => return (vec![("(any)", Err(report::line(&error)))], None),
    };
    let answers: Backends = encap::candidates(Choice::Auto)
        .into_iter()
        .map(|mut backend| (backend.name(), backend.look(&mut kernel)))
        .collect();
    let auto = encap::select(Choice::Auto, answers.clone(), |b| b.0, |b| b.1.clone())
        .map(|selected| (selected.backend.0, selected.why))
        .ok();
    (answers, auto)
}

fn net_admin() -> Answer {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or("/proc/self/status has no CapEff")?;
    if effective >> NET_ADMIN & 1 == 1 {
        Ok("effective".to_owned())
    } else {
        Err("not effective; run as root or in a user namespace".to_owned())
    }
}

fn sysctls() -> Answer {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    // To open for writing asks without writing.
    match OpenOptions::new().write(true).open(PATH) {
        Ok(_) => Ok(PATH.to_owned()),
        Err(error) => Err(format!("{PATH}: {error}")),
    }
}

fn nftables() -> Answer {
    let generation = features::nftables().map_err(|error| error.to_string())?;
    let version =
        nft::version().map_err(|error| format!("{}; install nftables", report::line(&error)))?;
    Ok(format!(
        "the kernel's rulesets are at generation {generation}, the program is {version}"
    ))
}

fn notifications() -> Answer {
    match Inotify::init() {
        Ok(_) => Ok("an instance is left for this user".to_owned()),
        Err(error) => Err(format!("{error}; the datastore would be polled")),
    }
}
