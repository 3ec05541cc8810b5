//! What a run has on the host while it lives, and what is left of it afterwards.

use std::collections::BTreeSet;
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
        let links: Vec<_> = links()?.difference(&self.links).cloned().collect();
        ensure!(links.is_empty(), "new links on the host: {links:?}");
        let mounts: Vec<_> = mounts()?.difference(&self.mounts).cloned().collect();
        ensure!(mounts.is_empty(), "new mounts on the host: {mounts:?}");
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
        Ok(Self {
            marker: marker.to_owned(),
            processes,
            namespaces,
        })
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
    let folders = ["ns", "fd"].map(|folder| PathBuf::from(format!("/proc/{process}/{folder}")));
    let links = folders.iter().flat_map(|folder| {
        names_in(folder)
            .into_iter()
            .filter_map(|name| std::fs::read_link(folder.join(name)).ok())
    });
    let targets = links.filter_map(|target| target.to_str().map(str::to_owned));
    // A socket or an eventfd is written the same way, `kind:[inode]`.
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    targets
        .filter(|target| {
            target
                .split_once(":[")
                .is_some_and(|(kind, _)| KINDS.contains(&kind))
        })
        .collect()
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
