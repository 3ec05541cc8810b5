//! What a run has left behind on the host, found out by the supervisor, which is still there.
//!
//! Others work on the host at the same time, other runs of ours among them. So only what can be
//! told to be of this run counts: a process that carries its mark or holds one of its namespaces,
//! a new mount, link, file or control group that looks as only ours do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::ifaddrs::getifaddrs;
use nix::unistd::Pid;

use super::cgroups::cgroups;

/// Environment variable that every process of a run carries: the marks of the runs that it is part
/// of, the outermost first, separated by colons.
const MARK: &str = "PODLAB_RUN";

/// How long the kernel may take to end what it has been told to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The host as it was before a run.
#[derive(Debug)]
pub(super) struct Host {
    mark: String,
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
}

/// The namespaces that init was born into, as `/proc` writes them: `net:[4026531840]`.
///
/// They are held open until the host has been looked at. The kernel gives the number of one that
/// is gone to the next at once, and a run beside this one would be taken for a leak of it.
#[derive(Debug)]
pub(super) struct OwnNamespaces(BTreeMap<String, File>);

/// Something that was left behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leak {
    Process {
        id: u32,
        line: String,
    },
    Holder {
        id: u32,
        line: String,
        namespace: String,
    },
    Mount(String),
    Link(String),
    File(PathBuf),
    Cgroup(PathBuf),
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { id, line } => write!(f, "process {id} ({line})"),
            Self::Holder {
                id,
                line,
                namespace,
            } => write!(f, "namespace {namespace}, held by process {id} ({line})"),
            Self::Mount(mount) => write!(f, "mount {mount}"),
            Self::Link(link) => write!(f, "link {link}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Cgroup(path) => write!(f, "control group {}", path.display()),
        }
    }
}

impl Host {
    /// Looks at the host, and marks the calling process, which must have one thread, and with it
    /// all that it will start.
    pub(super) fn mark_and_look() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mark = format!(
            "{}-{}",
            std::process::id(),
            now.unwrap_or_default().as_nanos()
        );
        let outer = std::env::var(MARK).map_or(String::new(), |outer| outer + ":");
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var(MARK, format!("{outer}{mark}")) };
        let mounts = mounts();
        Self {
            mark,
            cgroups: cgroups(&mounts),
            mounts,
            links: links(),
            files: files(),
        }
    }

    /// What is left of the run now that init has ended; waits a second for it to go.
    pub(super) fn left_by(&self, namespaces: &OwnNamespaces) -> Vec<Leak> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let leaks = self.look(namespaces);
            if leaks.is_empty() || Instant::now() > give_up {
                return leaks;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn look(&self, namespaces: &OwnNamespaces) -> Vec<Leak> {
        let mut leaks = self.processes(namespaces);
        let new = |now: BTreeSet<PathBuf>, before: &BTreeSet<PathBuf>| -> Vec<PathBuf> {
            now.difference(before).cloned().collect()
        };
        let all_mounts = mounts();
        let mounts = all_mounts.difference(&self.mounts);
        let ours = mounts.filter(|mount| namespaces.is_mounted(mount) || is_our_mount(mount));
        leaks.extend(ours.cloned().map(Leak::Mount));
        let links = links();
        let links = links.difference(&self.links);
        let ours = links.filter(|link| is_our_link(link));
        leaks.extend(ours.cloned().map(Leak::Link));
        leaks.extend(new(files(), &self.files).into_iter().map(Leak::File));
        leaks.extend(
            new(cgroups(&all_mounts), &self.cgroups)
                .into_iter()
                .map(Leak::Cgroup),
        );
        leaks
    }

    /// Looks at the processes that are younger than the run: an older one neither carries its mark
    /// nor can hold a namespace of it, unless it went and took it.
    fn processes(&self, namespaces: &OwnNamespaces) -> Vec<Leak> {
        let own = std::process::id();
        let Some(start) = Process(own).started() else {
            return Vec::new();
        };
        let younger = entries(Path::new("/proc"))
            .into_iter()
            .filter_map(|path| name_of(&path).parse().ok())
            .filter(|id| *id != own && Process(*id).started() >= Some(start));
        younger
            .filter_map(|id| {
                let process = Process(id);
                if process.is_marked(&self.mark) {
                    let line = process.line();
                    return Some(Leak::Process { id, line });
                }
                let namespace = namespaces.held_by(&process)?;
                let line = process.line();
                Some(Leak::Holder {
                    id,
                    line,
                    namespace,
                })
            })
            .collect()
    }
}

/// A process by its number.
struct Process(u32);

impl Process {
    /// In clock ticks since the system's start (proc_pid_stat(5)).
    fn started(&self) -> Option<u64> {
        // Read by one call: this is asked of every process there is.
        let mut buffer = [0; 1024];
        let length = File::open(self.file("stat")).ok()?.read(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        // The second field is a name in parentheses, which may hold anything.
        let (_, rest) = text.rsplit_once(") ")?;
        rest.split(' ').nth(19)?.parse().ok()
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    fn line(&self) -> String {
        let line = std::fs::read(self.file("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.trim().to_owned()
    }

    fn is_marked(&self, mark: &str) -> bool {
        let environment = std::fs::read(self.file("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| {
            let value = variable
                .strip_prefix(MARK.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="));
            let mut marks = value.unwrap_or_default().split(|byte| *byte == b':');
            marks.any(|one| one == mark.as_bytes())
        })
    }
}

impl OwnNamespaces {
    /// Those of a process that was born into namespaces of its own; the others are the caller's.
    pub(super) fn of(init: Pid) -> Self {
        let all = |process: &str| -> BTreeMap<String, File> {
            let paths = entries(&PathBuf::from(format!("/proc/{process}/ns")));
            // Opened first: after that the name cannot become that of another.
            let open = |path: &PathBuf| File::open(path).ok().zip(target(path));
            let opened = paths.iter().filter_map(open);
            opened.map(|(file, name)| (name, file)).collect()
        };
        let (mut own, callers) = (all(&init.to_string()), all("self"));
        own.retain(|name, _| !callers.contains_key(name));
        Self(own)
    }

    /// The first of them that a process lives in or has open.
    fn held_by(&self, process: &Process) -> Option<String> {
        let folders = [process.file("ns"), process.file("fd")];
        let paths = folders.iter().flat_map(|folder| entries(folder));
        let mut targets = paths.filter_map(|path| target(&path));
        targets.find(|target| self.0.contains_key(target))
    }

    /// Whether a line of the mount table is one of them, given a name by a mount.
    fn is_mounted(&self, mount: &str) -> bool {
        // The fourth column is what of the file system was mounted.
        let root = mount.split(' ').nth(3);
        root.is_some_and(|root| self.0.contains_key(root))
    }
}

/// A mount as the sandbox makes them, which others do not make while the system runs.
fn is_our_mount(mount: &str) -> bool {
    let point = mount.split(' ').nth(4).unwrap_or_default();
    ["/proc", "/sys", "/run", "/run/tmp"].contains(&point) || point.contains("podlab")
}

/// A link with a name or an address as the harness and the agent give them. Not `tunl0`: the
/// kernel makes one in every namespace when somebody loads its module.
fn is_our_link(link: &str) -> bool {
    link.starts_with("cali")
        || link.starts_with("tunl0-x ")
        || [" ee:ee:ee:ee:ee:ee", " 02:4e:", " 02:50:"]
            .iter()
            .any(|address| link.contains(address))
}

fn mounts() -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().map(str::to_owned).collect()
}

/// The links of the calling process's network namespace, `NAME ADDRESS`. `/sys` shows those of
/// whoever mounted it.
fn links() -> BTreeSet<String> {
    let all = getifaddrs().into_iter().flatten();
    all.filter_map(|interface| {
        let address = interface.address?;
        let address = address.as_link_addr()?.addr().unwrap_or_default();
        let address = address.map(|byte| format!("{byte:02x}")).join(":");
        Some(format!("{} {address}", interface.interface_name))
    })
    .collect()
}

/// In the folders where programs leave files, those that bear our name.
fn files() -> BTreeSet<PathBuf> {
    let temporary = std::env::temp_dir();
    let places = ["/run", "/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from);
    let in_places = places
        .into_iter()
        .chain([temporary])
        .flat_map(|place| entries(&place));
    in_places
        .filter(|path| name_of(path).contains("podlab"))
        .collect()
}

pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect()
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn target(link: &Path) -> Option<String> {
    std::fs::read_link(link)
        .ok()?
        .into_os_string()
        .into_string()
        .ok()
}
