//! What a run has on the host while it lives, and what is left of it afterwards.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use podlab::eventually::eventually;
use tempfile::TempDir;

use super::proc::{Namespace, Process, names_in, namespace_paths, namespaces_of, process_ids};

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
    pub(crate) processes: BTreeSet<Process>,
    pub(crate) namespaces: BTreeSet<Namespace>,
    /// How many of the processes are agents.
    pub(crate) agents: usize,
}

/// Namespaces of a run that are held open: as long as they are, the kernel gives their numbers to
/// nobody else, and whoever has one of these numbers has the run's namespace.
#[derive(Default)]
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
            links: links(),
            mounts: mounts(),
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

    /// Fails unless everything of a run is gone within a second.
    ///
    /// A namespace lives as long as a process or a mount holds it. Numbers of processes and
    /// namespaces are used again at once, perhaps by somebody else's run, so what counts is
    /// whether a process of *this* run is left, and whether the host has a new mount.
    pub(crate) async fn assert_clean(&self, run: &Footprint) -> Result<()> {
        let own = run.own_namespaces(self);
        ensure!(!own.is_empty(), "the run had no namespace of its own");
        let second = Duration::from_secs(1);
        self.until_clean(run, &Held::default(), second).await?;
        Ok(())
    }

    /// The same for a run that may have ended before it had anything, with a limit of one's own,
    /// before the patience factor. Nobody but the caller may have a namespace that is held. Returns
    /// what was seen last that was too much.
    pub(crate) async fn until_clean(
        &self,
        run: &Footprint,
        held: &Held,
        limit: Duration,
    ) -> Result<Option<String>> {
        let mut last_seen = None;
        let clean = eventually("nothing is left of the run", limit, || {
            let seen = self.look(run, held);
            last_seen = seen.clone().err().or(last_seen.take());
            std::future::ready(seen)
        });
        clean.await?;
        Ok(last_seen)
    }

    /// What is left of a run, or how the host is another. The cheapest comes first, and the dearest
    /// only when that has found nothing.
    fn look(&self, run: &Footprint, held: &Held) -> Result<(), String> {
        nothing(
            "processes that are ending",
            run.processes.iter().filter(|process| !process.is_gone()),
        )?;
        let left = Footprint::of(&run.marker);
        let namespaces = left.own_namespaces(self);
        nothing(
            &format!("processes, which hold {namespaces:?}"),
            &left.processes,
        )?;
        nothing("holders of namespaces", held.holders())?;
        nothing(
            "new or lost links of the host",
            self.links.symmetric_difference(&links()),
        )?;
        nothing(
            "new or lost mounts of the host",
            self.mounts.symmetric_difference(&mounts()),
        )?;
        nothing("new control groups", cgroups().difference(&self.cgroups))?;
        nothing("new files on the host", files().difference(&self.files))?;
        // A run that was killed half-way may have failed before, and left evidence of that.
        let home = names_in(self.home()).into_iter();
        nothing(
            "files in the run's home",
            home.filter(|name| name != "target"),
        )
    }
}

/// What `found` yields is an error that says so.
fn nothing<T: Debug>(what: &str, found: impl IntoIterator<Item = T>) -> Result<(), String> {
    let found: Vec<T> = found.into_iter().collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}")),
    }
}

impl Held {
    /// Processes other than the caller that have one of the namespaces, and which. One that has
    /// ended shows its PID namespace until it is waited for: the orphans of a run by the host's
    /// process 1, which takes its time.
    fn holders(&self) -> Vec<(u32, BTreeSet<Namespace>)> {
        if self.numbers.is_empty() {
            return Vec::new();
        }
        let own = std::process::id();
        let others = process_ids().into_iter().filter(|id| *id != own);
        let others = others.filter(|id| Process::of(*id).is_some_and(|of| !of.is_gone()));
        let has = others.map(|id| (id, &namespaces_of(id) & &self.numbers));
        has.filter(|(_, has)| !has.is_empty()).collect()
    }
}

impl Footprint {
    /// The run whose processes carry `marker`.
    pub(crate) fn of(marker: &str) -> Self {
        let wanted = format!("{}={marker}", Host::MARKER);
        let marked = |id: &u32| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes())
        };
        let marked = process_ids().into_iter().filter(marked);
        let processes: BTreeSet<_> = marked.filter_map(Process::of).collect();
        let of_one = |process: &Process| namespaces_of(process.id);
        let namespaces = processes.iter().flat_map(of_one).collect();
        let agents = processes.iter().filter(|process| {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", process.id));
            name.is_ok_and(|name| name.trim() == "podlab-agent")
        });
        Self {
            marker: marker.to_owned(),
            agents: agents.count(),
            processes,
            namespaces,
        }
    }

    /// Holds its namespaces, as far as they are still there.
    pub(crate) fn hold(&self, host: &Host) -> Held {
        let own = self.own_namespaces(host);
        let mut held = Held::default();
        let paths_of = |process: &Process| namespace_paths(process.id);
        for path in self.processes.iter().flat_map(paths_of) {
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

fn links() -> BTreeSet<String> {
    names_in(Path::new("/sys/class/net")).into_iter().collect()
}

fn mounts() -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().map(str::to_owned).collect()
}

/// Control groups of ours below those of the tests, in every hierarchy that is mounted. A path that
/// belongs to another hierarchy leads nowhere.
fn cgroups() -> BTreeSet<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.split_once(":/"))
        .map(|(_, path)| path)
        .collect();
    let mounts = mounts();
    let hierarchies = mounts.iter().filter(|mount| mount.contains(" - cgroup"));
    let points = hierarchies.filter_map(|mount| mount.split(' ').nth(4));
    let folders = points.flat_map(|point| own.iter().map(move |path| Path::new(point).join(path)));
    let groups = folders.flat_map(|folder| {
        let names = names_in(&folder).into_iter();
        let ours = names.filter(|name| name.contains("podlab"));
        ours.map(move |name| folder.join(name)).collect::<Vec<_>>()
    });
    groups.filter(|path| path.is_dir()).collect()
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
