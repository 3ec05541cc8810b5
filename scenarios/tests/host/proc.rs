//! What `/proc` tells of processes and their namespaces.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A namespace as the kernel names it: `net:[4026531840]`.
pub(crate) type Namespace = String;

/// A process of which there is one: numbers are used again, with another start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) id: u32,
    /// In clock ticks since the system's start (proc_pid_stat(5)).
    start: u64,
}

impl Process {
    pub(crate) fn of(id: u32) -> Option<Self> {
        let start = Stat::of(id)?.start;
        Some(Self { id, start })
    }

    /// Whether the kernel is done with it: long before that it has neither an environment nor open
    /// files to be seen, but may still be closing what it had open. One that is done but was not
    /// waited for is its parent's affair.
    pub(crate) fn is_gone(self) -> bool {
        let done = |stat: &Stat| matches!(stat.state, 'Z' | 'X') && stat.threads <= 1;
        Stat::of(self.id).is_none_or(|stat| stat.start != self.start || done(&stat))
    }
}

struct Stat {
    state: char,
    threads: usize,
    start: u64,
}

impl Stat {
    fn of(id: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The second field is a name in parentheses, which may hold anything.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some(Self {
            state: fields.first()?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}

pub(crate) fn process_ids() -> BTreeSet<u32> {
    names_in(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// The namespaces that a process lives in or holds open.
pub(crate) fn namespaces_of(process: u32) -> BTreeSet<Namespace> {
    let links = namespace_paths(process).into_iter();
    let links = links.filter_map(|path| std::fs::read_link(path).ok());
    let targets = links.filter_map(|target| target.to_str().map(str::to_owned));
    targets.filter(|target| is_namespace(target)).collect()
}

/// Where `/proc` has the namespaces that a process lives in or holds open.
pub(crate) fn namespace_paths(process: u32) -> Vec<PathBuf> {
    let folders = ["ns", "fd"].map(|folder| PathBuf::from(format!("/proc/{process}/{folder}")));
    let paths = folders.iter().flat_map(|folder| {
        let names = names_in(folder).into_iter();
        names.map(|name| folder.join(name)).collect::<Vec<_>>()
    });
    let of_namespaces = |path: &PathBuf| {
        let target = std::fs::read_link(path);
        target.is_ok_and(|target| target.to_str().is_some_and(is_namespace))
    };
    paths.filter(of_namespaces).collect()
}

fn is_namespace(target: &str) -> bool {
    // A socket or an eventfd is written the same way, `kind:[inode]`.
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let kind = target.split_once(":[").map(|(kind, _)| kind);
    kind.is_some_and(|kind| KINDS.contains(&kind))
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
