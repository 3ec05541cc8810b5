//! Ends every process of a set of machines, children of children included.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a machine's processes may fork away from under us before we give up. Each round
/// kills all that exist; only something that forks faster than that survives a round.
const ROUNDS: usize = 20;

/// Sends SIGKILL to every process whose network namespace has one of these inodes.
///
/// The membership in a namespace is what ties a process to a machine: a daemon that left its
/// session or its parent is found too. The sandbox has a PID namespace of its own, so nothing of
/// the host can be hit.
pub(crate) fn kill_all_in(net_inodes: &BTreeSet<u64>) {
    for _ in 0..ROUNDS {
        let processes = processes_in(net_inodes);
        if processes.is_empty() {
            return;
        }
        for process in processes {
            // One that is gone by now needs no signal.
            kill(process, Signal::SIGKILL).ok();
        }
    }
}

/// The processes whose network namespace has one of these inodes.
pub(crate) fn processes_in(net_inodes: &BTreeSet<u64>) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inside = ids.filter(|id| {
        // The link of a zombie cannot be followed: it holds no namespace any more.
        std::fs::metadata(format!("/proc/{id}/ns/net"))
            .is_ok_and(|metadata| net_inodes.contains(&metadata.ino()))
    });
    inside.map(Pid::from_raw).collect()
}
