//! What a run has on the host while it lives, and what is left of it afterwards.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use podlab::eventually::eventually;
use tempfile::TempDir;

/// A namespace as the kernel names it: `net:[4026531840]`.
type Namespace = String;

/// The host before a run.
pub(crate) struct Host {
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    own_namespaces: BTreeSet<Namespace>,
    /// An empty folder that is the run's home, working and temporary folder.
    home: TempDir,
}

/// The processes of a run and all namespaces that they live in or hold open.
#[derive(Debug)]
pub(crate) struct Footprint {
    marker: String,
    pub(crate) processes: BTreeSet<u32>,
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// How many of the processes are agents.
    pub(crate) agents: usize,
}

/// Namespaces of a run that are held open: as long as they are, the kernel gives their numbers to
/// nobody else, and whoever has one of these numbers has the run's namespace.
pub(crate) struct Held {
    numbers: BTreeSet<Namespace>,
    files: Vec<File>,
}

impl Host {
    /// The environment variable by which the processes of a run are told from all others: it is
    /// inherited by whatever they start.
    pub(crate) const MARKER: &str = "PODLAB_TEST_RUN";

    pub(crate) fn before() -> Result<Self> {
        Ok(Self {
            links: links()?,
            mounts: mounts()?,
            cgroups: cgroups(),
            files: files(),
            own_namespaces: namespaces_of(std::process::id()),
            home: TempDir::new()?,
        })
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn new_marker(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        format!(
            "{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Fails unless everything of a run is gone.
    ///
    /// A namespace lives as long as a process or a mount holds it. Numbers of processes and
    /// namespaces are used again at once, perhaps by somebody else's run, so what counts is
    /// whether a process of *this* run is left, and whether the host has a new mount.
    pub(crate) async fn assert_clean(&self, run: &Footprint) -> Result<()> {
        let own = run.own_namespaces(self);
        ensure!(!own.is_empty(), "the run had no namespace of its own");
        self.assert_nothing_of(&run.marker, Duration::from_secs(1))
            .await
    }

    /// The same for a run that may have ended before it had anything; `limit` is how long the
    /// kernel may take, before the patience factor.
    pub(crate) async fn assert_nothing_of(&self, marker: &str, limit: Duration) -> Result<()> {
        eventually("the run's processes are gone", limit, || async {
            let left = Footprint::of(marker).map_err(|error| error.to_string())?;
            let namespaces = left.own_namespaces(self);
            match left.processes.is_empty() {
                true => Ok(()),
                false => Err(format!(
                    "{:?} are left and hold {namespaces:?}",
                    left.processes
                )),
            }
        })
        .await?;
        let changed = |before: &BTreeSet<String>, now: &BTreeSet<String>| -> Vec<String> {
            before.symmetric_difference(now).cloned().collect()
        };
        let links = changed(&self.links, &links()?);
        ensure!(links.is_empty(), "new or lost links of the host: {links:?}");
        let mounts = changed(&self.mounts, &mounts()?);
        ensure!(
            mounts.is_empty(),
            "new or lost mounts of the host: {mounts:?}"
        );
        let cgroups: Vec<_> = cgroups().difference(&self.cgroups).cloned().collect();
        ensure!(cgroups.is_empty(), "new control groups: {cgroups:?}");
        let files: Vec<_> = files().difference(&self.files).cloned().collect();
        ensure!(files.is_empty(), "new files on the host: {files:?}");
        // A run that was killed half-way may have failed before, and left evidence of that.
        let home: Vec<_> = std::fs::read_dir(self.home())?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name() != "target")
            .collect();
        ensure!(home.is_empty(), "files in the run's home: {home:?}");
        Ok(())
    }

    /// Fails unless the namespaces of a run are nobody's but the caller's.
    pub(crate) async fn assert_nobody_has(&self, held: &Held, limit: Duration) -> Result<()> {
        let own = std::process::id();
        eventually("nobody has a namespace of the run", limit, || async {
            let others = process_ids().into_iter().filter(|id| *id != own);
            let holders: Vec<_> = others
                .filter_map(|id| {
                    let has = namespaces_of(id);
                    let has: Vec<_> = has.intersection(&held.numbers).cloned().collect();
                    (!has.is_empty()).then_some((id, has))
                })
                .collect();
            match holders.is_empty() {
                true => Ok(()),
                false => Err(format!("{holders:?}")),
            }
        })
        .await?;
        Ok(())
    }
}

impl Footprint {
    /// The run whose processes carry `marker`.
    pub(crate) fn of(marker: &str) -> Result<Self> {
        let wanted = format!("{}={marker}", Host::MARKER);
        let marked = |id: &u32| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes())
        };
        let processes: BTreeSet<u32> = process_ids().into_iter().filter(marked).collect();
        let namespaces = processes.iter().flat_map(|id| namespaces_of(*id)).collect();
        let agents = processes.iter().filter(|id| {
            let name = std::fs::read_to_string(format!("/proc/{id}/comm"));
            name.is_ok_and(|name| name.trim() == "podlab-agent")
        });
        Ok(Self {
            marker: marker.to_owned(),
            agents: agents.count(),
            processes,
            namespaces,
        })
    }

    /// Holds its namespaces, as far as they are still there.
    pub(crate) fn hold(&self, host: &Host) -> Held {
        let own = self.own_namespaces(host);
        let mut held = Held {
            numbers: BTreeSet::new(),
            files: Vec::new(),
        };
        for path in self.processes.iter().flat_map(|id| namespace_paths(*id)) {
            // Which one it is, is asked of what was opened.
            let Ok(file) = File::open(path) else { continue };
            let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let number = opened.map(|link| link.to_string_lossy().into_owned());
            if let Ok(number) = number
                && own.contains(&number)
                && held.numbers.insert(number)
            {
                held.files.push(file);
            }
        }
        held
    }

    /// Those that are not the host's own.
    pub(crate) fn own_namespaces(&self, host: &Host) -> BTreeSet<Namespace> {
        self.namespaces
            .difference(&host.own_namespaces)
            .cloned()
            .collect()
    }
}

fn process_ids() -> BTreeSet<u32> {
    names_in(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// The namespaces that a process lives in or holds open.
fn namespaces_of(process: u32) -> BTreeSet<Namespace> {
    let links = namespace_paths(process).into_iter();
    let links = links.filter_map(|path| std::fs::read_link(path).ok());
    let targets = links.filter_map(|target| target.to_str().map(str::to_owned));
    targets.filter(|target| is_namespace(target)).collect()
}

/// Where `/proc` has the namespaces that a process lives in or holds open.
fn namespace_paths(process: u32) -> Vec<PathBuf> {
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

fn links() -> Result<BTreeSet<String>> {
    Ok(names_in(Path::new("/sys/class/net")).into_iter().collect())
}

fn mounts() -> Result<BTreeSet<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts.lines().map(str::to_owned).collect())
}

/// The control groups below that of the tests.
fn cgroups() -> BTreeSet<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = table.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some(folder) = own.map(|own| Path::new("/sys/fs/cgroup").join(own)) else {
        return BTreeSet::new();
    };
    let paths = names_in(&folder).into_iter().map(|name| folder.join(name));
    paths.filter(|path| path.is_dir()).collect()
}

/// Files of ours in the places where programs put files. Other programs put theirs there at the
/// same time, so only names that can be ours count.
fn files() -> BTreeSet<PathBuf> {
    let places = ["/run", "/run/netns", "/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from);
    let names = places.iter().flat_map(|place| {
        names_in(place)
            .into_iter()
            .map(move |name| (name.clone(), place.join(name)))
    });
    let ours = names.filter(|(name, path)| {
        name.contains("podlab") || name.contains("cluster-") || path.starts_with("/run/netns")
    });
    ours.map(|(_, path)| path).collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
