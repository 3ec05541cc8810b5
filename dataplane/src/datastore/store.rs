//! The files of the datastore as values.
//!
//! A file that cannot be used keeps the content it last had when it could; that it is broken is
//! remembered, so that it can be complained of until it is mended.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{Config, File, Folder, Snapshot};

/// No record is remotely this long; whatever is, is not ours to read into memory.
const LONGEST_FILE: u64 = 1 << 20;

/// A datastore that an agent cannot start from.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is not there, or not readable.
    #[error("datastore {}: {source}\nhint: --datastore names the directory that holds pools/, nodes/ and endpoints/", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Files that cannot be used, as (path below the datastore, why).
    #[error("datastore {}: {}\nhint: mend or remove the file; an agent that is running keeps a file's last good content, but one that starts has none", path.display(), list(files))]
    Files {
        /// The directory.
        path: PathBuf,
        /// Path below it, and what is wrong.
        files: Vec<(String, String)>,
    },
}

fn list(files: &[(String, String)]) -> String {
    let lines: Vec<_> = files
        .iter()
        .map(|(file, why)| format!("{file}: {why}"))
        .collect();
    lines.join("\n  ")
}

/// The datastore in memory.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    snapshot: Snapshot,
    broken: BTreeMap<File, String>,
    /// Folders that could not be listed, and why.
    unreadable: BTreeMap<Folder, String>,
    /// Kept between files, so that a thousand of them cost one allocation.
    buffer: Vec<u8>,
}

impl Store {
    /// A store over the directory `root`, with nothing read yet.
    ///
    /// # Errors
    /// [`StoreError::Directory`] when `root` is not a readable directory.
    pub fn new(root: &Path) -> Result<Self, StoreError> {
        fs::read_dir(root).map_err(|source| StoreError::Directory {
            path: root.to_owned(),
            source,
        })?;
        Ok(Self {
            root: root.to_owned(),
            snapshot: Snapshot::default(),
            broken: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            buffer: Vec::new(),
        })
    }

    /// Reads everything, for the first time, on behalf of `node`.
    ///
    /// Files that concern another node or a single pod may be broken: they are left out until they
    /// are mended, as they are by an agent that runs and had never read them.
    ///
    /// # Errors
    /// [`StoreError::Files`] with every file that cannot be used, if one of them is the node's own
    /// record, a pool or the configuration, or if a folder cannot be read: an agent that starts
    /// has no last good content to fall back to, and without these would tear out all routes that
    /// a former life has made.
    pub fn open(root: &Path, node: &str) -> Result<Self, StoreError> {
        let mut store = Self::new(root)?;
        store.reload_all();
        let needed = |file: &File| match file {
            File::Config | File::Pool(_) => true,
            File::Node(name) => name == node,
            File::Endpoint(..) => false,
        };
        if store.unreadable.is_empty() && !store.broken.keys().any(needed) {
            return Ok(store);
        }
        let folders = store.unreadable.iter();
        let folders = folders.map(|(f, why)| (f.path().display().to_string(), why.clone()));
        let files = store.broken.iter();
        let files = files.map(|(f, why)| (f.to_string(), why.clone()));
        let files = folders.chain(files).collect();
        Err(StoreError::Files {
            path: store.root,
            files,
        })
    }

    /// The last good content of every file.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether something of the datastore could not be used when it was read last.
    pub(crate) fn is_incomplete(&self) -> bool {
        !(self.broken.is_empty() && self.unreadable.is_empty())
    }

    /// Reads again what could not be used: not everything that fails for a while (a file system
    /// that is away) announces that it is back. Returns whether the snapshot changed.
    pub(crate) fn reload_incomplete(&mut self) -> bool {
        let folders: Vec<Folder> = self.unreadable.keys().cloned().collect();
        let files: Vec<File> = self.broken.keys().cloned().collect();
        if folders.contains(&Folder::Endpoints) {
            return self.reload_all();
        }
        let mut changed = false;
        for folder in &folders {
            changed |= self.reload_folder(folder);
        }
        for file in &files {
            changed |= self.reload(file);
        }
        changed
    }

    /// Reads every file again. Returns whether the snapshot changed.
    pub(crate) fn reload_all(&mut self) -> bool {
        // Which nodes have endpoints only this folder tells.
        self.list(&Folder::Endpoints);
        let present: BTreeSet<Folder> = folders(&self.root).into_iter().collect();
        let known: BTreeSet<Folder> = self.remembered().map(|file| file.folder()).collect();
        let mut changed = false;
        for folder in present.union(&known) {
            changed |= self.reload_folder(folder);
        }
        changed
    }

    /// Reads the files of one folder again, forgetting those that are gone. Returns whether the
    /// snapshot changed.
    pub(crate) fn reload_folder(&mut self, folder: &Folder) -> bool {
        // One that cannot be read is not the same as an empty one: nothing is forgotten.
        let Some(names) = self.list(folder) else {
            return false;
        };
        let mut files: BTreeSet<File> = names.iter().filter_map(|name| folder.file(name)).collect();
        files.extend(self.remembered().filter(|file| file.folder() == *folder));
        let mut changed = false;
        for file in files {
            changed |= self.reload(&file);
        }
        changed
    }

    /// The names in a folder, of which a missing one has none; `None` when it cannot be read.
    fn list(&mut self, folder: &Folder) -> Option<Vec<String>> {
        match names(&self.root.join(folder.path())) {
            Err(error) if !gone(&error) => {
                self.unreadable.insert(folder.clone(), error.to_string());
                None
            }
            names => {
                self.unreadable.remove(folder);
                Some(names.unwrap_or_default())
            }
        }
    }

    /// Reads one file again. Returns whether the snapshot changed.
    pub(crate) fn reload(&mut self, file: &File) -> bool {
        match self.read_into_snapshot(file) {
            Ok(changed) => {
                self.broken.remove(file);
                changed
            }
            Err(why) => {
                self.broken.insert(file.clone(), why);
                false
            }
        }
    }

    /// The files that cannot be used at the moment, a line on each.
    pub(crate) fn complaints(&self) -> BTreeSet<String> {
        let known: BTreeSet<File> = self.known().collect();
        let complaint = |(file, why): (&File, &String)| {
            let instead = if known.contains(file) {
                "keeping its last good content until it is mended"
            } else {
                "ignoring it until it is mended"
            };
            format!("{file}: {why}; {instead}")
        };
        let folders = self.unreadable.iter().map(|(folder, why)| {
            let path = folder.path();
            let path = path.display();
            format!("{path}: {why}; keeping what it held until it can be read")
        });
        self.broken.iter().map(complaint).chain(folders).collect()
    }

    /// The files that the snapshot holds the content of.
    fn known(&self) -> impl Iterator<Item = File> {
        let snapshot = &self.snapshot;
        let pools = snapshot.pools.keys().cloned().map(File::Pool);
        let nodes = snapshot.nodes.keys().cloned().map(File::Node);
        let endpoints = snapshot
            .endpoints
            .keys()
            .map(|(node, id)| File::Endpoint(node.clone(), id.clone()));
        let config = (snapshot.config != Config::default()).then_some(File::Config);
        pools.chain(config).chain(nodes).chain(endpoints)
    }

    /// The same, and the broken ones.
    fn remembered(&self) -> impl Iterator<Item = File> {
        self.known().chain(self.broken.keys().cloned())
    }

    fn read_into_snapshot(&mut self, file: &File) -> Result<bool, String> {
        let bytes = match read(&self.root.join(file.path()), &mut self.buffer) {
            Ok(()) => Some(self.buffer.as_slice()),
            Err(error) if gone(&error) => None,
            Err(error) => return Err(error.to_string()),
        };
        let snapshot = &mut self.snapshot;
        match file {
            File::Config => {
                let config = bytes.map(parse).transpose()?.unwrap_or_default();
                let changed = config != snapshot.config;
                snapshot.config = config;
                Ok(changed)
            }
            File::Pool(name) => put(&mut snapshot.pools, name.clone(), bytes),
            File::Node(name) => put(&mut snapshot.nodes, name.clone(), bytes),
            File::Endpoint(node, id) => {
                put(&mut snapshot.endpoints, (node.clone(), id.clone()), bytes)
            }
        }
    }
}

/// The folders of the datastore at `root`, as far as `endpoints/` says; that of pools and that of
/// nodes are among them even where they do not exist.
pub(super) fn folders(root: &Path) -> Vec<Folder> {
    let nodes = names(&root.join("endpoints")).unwrap_or_default();
    [Folder::Root, Folder::Pools, Folder::Nodes]
        .into_iter()
        .chain(
            nodes
                .into_iter()
                .filter(|n| !n.starts_with('.'))
                .map(Folder::EndpointsOf),
        )
        .collect()
}

/// Parses `bytes` into the map, or removes the entry when there are none. Returns whether the
/// map changed.
fn put<K: Ord, T: DeserializeOwned + PartialEq>(
    map: &mut BTreeMap<K, T>,
    key: K,
    bytes: Option<&[u8]>,
) -> Result<bool, String> {
    let Some(bytes) = bytes else {
        return Ok(map.remove(&key).is_some());
    };
    let value: T = parse(bytes)?;
    Ok(match map.entry(key) {
        Entry::Occupied(mut entry) => entry.insert(value) != *entry.get(),
        Entry::Vacant(entry) => {
            entry.insert(value);
            true
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn read(path: &Path, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    fs::File::open(path)?
        .take(LONGEST_FILE + 1)
        .read_to_end(buffer)?;
    if buffer.len() as u64 > LONGEST_FILE {
        return Err(io::Error::other(format!(
            "is longer than {LONGEST_FILE} bytes"
        )));
    }
    Ok(())
}

/// Names that are not UTF-8 are no names of the datastore.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// There is no such file or folder, as opposed to one that cannot be read.
pub(super) fn gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = r#"{"address":"10.12.22.2/16","blocks":["192.168.1.0/24"]}"#;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn node(name: &str) -> File {
        File::Node(name.to_owned())
    }

    #[test]
    fn temporary_and_foreign_names_are_ignored_and_missing_folders_are_empty() {
        let directory = directory(&[
            ("nodes/a.json", NODE),
            ("nodes/.b.json", "{"),
            ("nodes/c.json.tmp", "{"),
            ("endpoints/.hidden/d.json", "{"),
        ]);
        let store = Store::open(directory.path(), "a").unwrap();
        assert_eq!(store.snapshot().nodes.keys().collect::<Vec<_>>(), ["a"]);
        assert!(store.snapshot().pools.is_empty() && store.snapshot().endpoints.is_empty());
    }

    #[test]
    fn an_agent_that_starts_is_told_of_every_bad_file() {
        let directory = directory(&[
            ("nodes/a.json", NODE),
            ("nodes/b.json", ""),
            ("pools/p.json", "["),
        ]);
        let error = Store::open(directory.path(), "a").unwrap_err().to_string();
        assert!(error.contains("nodes/b.json: is empty"), "{error}");
        assert!(error.contains("pools/p.json: EOF while parsing"), "{error}");
        assert!(
            error.lines().last().unwrap().starts_with("hint: "),
            "{error}"
        );
    }

    /// Otherwise one bad record would keep every agent of the cluster from coming back.
    #[test]
    fn an_agent_starts_without_broken_files_of_others_and_not_without_what_it_needs() {
        const POOL: &str = r#"{"cidr":"192.168.0.0/16","block_size":24,"encapsulation":"always"}"#;
        let directory = directory(&[
            ("nodes/a.json", NODE),
            ("nodes/b.json", "{"),
            ("pools/p.json", POOL),
            ("endpoints/a/x.json", "{"),
            ("endpoints/b/y.json", "{"),
        ]);
        let root = directory.path();
        let store = Store::open(root, "a").unwrap();
        assert_eq!(store.snapshot().nodes.keys().collect::<Vec<_>>(), ["a"]);
        assert!(store.is_incomplete(), "it is to be read again");
        let complaints = store.complaints();
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        let told = |text: &String| text.ends_with("ignoring it until it is mended");
        assert!(complaints.iter().all(told), "{complaints:?}");

        assert!(Store::open(root, "b").is_err(), "its own record");
        for (needed, good) in [("config.json", "{}"), ("pools/p.json", POOL)] {
            fs::write(root.join(needed), "{").unwrap();
            let error = Store::open(root, "a").unwrap_err().to_string();
            assert!(error.contains(needed), "{error}");
            fs::write(root.join(needed), good).unwrap();
        }
    }

    #[test]
    fn a_file_that_breaks_keeps_its_last_good_content_until_it_is_mended_or_removed() {
        let directory = directory(&[("nodes/a.json", NODE)]);
        let path = directory.path().join("nodes/a.json");
        let mut store = Store::open(directory.path(), "a").unwrap();
        let good = store.snapshot().clone();

        fs::write(&path, &NODE[..20]).unwrap();
        assert!(!store.reload(&node("a")));
        assert_eq!(*store.snapshot(), good);
        let complaint = store.complaints().pop_first().unwrap();
        assert!(
            complaint.starts_with("nodes/a.json: EOF while parsing"),
            "{complaint}"
        );
        assert!(
            complaint.ends_with("keeping its last good content until it is mended"),
            "{complaint}"
        );

        fs::write(&path, NODE.replace("22.2", "22.9")).unwrap();
        assert!(store.reload(&node("a")));
        assert!(store.complaints().is_empty());
        assert_eq!(
            store.snapshot().nodes["a"].address.to_string(),
            "10.12.22.9/16"
        );

        fs::remove_file(&path).unwrap();
        assert!(store.reload(&node("a")));
        assert!(store.snapshot().nodes.is_empty());
    }

    #[test]
    fn the_config_is_read_kept_while_broken_and_forgotten() {
        let directory = directory(&[("config.json", r#"{"external_nodes":["10.99.0.0/24"]}"#)]);
        let path = directory.path().join("config.json");
        let mut store = Store::open(directory.path(), "a").unwrap();
        let external = store.snapshot().config.external_nodes.clone();
        assert_eq!(external, ["10.99.0.0/24".parse().unwrap()].into());

        fs::write(&path, "{").unwrap();
        assert!(!store.reload(&File::Config));
        assert_eq!(store.snapshot().config.external_nodes, external);
        let complaint = store.complaints().pop_first().unwrap();
        assert!(complaint.starts_with("config.json: EOF"), "{complaint}");

        fs::remove_file(&path).unwrap();
        assert!(store.reload_all());
        assert_eq!(store.snapshot().config, Config::default());
        assert!(store.complaints().is_empty());
    }

    /// A symbolic link to itself cannot be followed, by root either.
    #[test]
    fn a_folder_that_cannot_be_read_keeps_what_it_held_until_it_can() {
        let endpoint =
            r#"{"pod":"p","namespace":"n","interface":"cali1","addresses":["192.168.1.2"]}"#;
        let directory = directory(&[("nodes/a.json", NODE), ("endpoints/n1/a.json", endpoint)]);
        let root = directory.path();
        let mut store = Store::open(root, "a").unwrap();
        let good = store.snapshot().clone();
        for folder in ["nodes", "endpoints"] {
            let (path, away) = (root.join(folder), root.join(format!("{folder}-away")));
            fs::rename(&path, &away).unwrap();
            std::os::unix::fs::symlink(&path, &path).unwrap();
            assert!(!store.reload_all());
            assert_eq!(*store.snapshot(), good);
            assert!(store.is_incomplete());
            let complaints = store.complaints();
            let told = |text: &String| text.starts_with(folder) && text.contains("symbolic");
            assert!(complaints.iter().any(told), "{complaints:?}");
            // One that starts knows nothing that it could keep.
            let error = Store::open(root, "a").unwrap_err().to_string();
            assert!(error.contains(&format!("{folder}: ")), "{error}");

            fs::remove_file(&path).unwrap();
            fs::rename(&away, &path).unwrap();
            fs::remove_file(root.join("nodes/a.json")).ok();
            fs::write(root.join("nodes/a.json"), NODE).unwrap();
            assert!(!store.reload_incomplete());
            assert!(!store.is_incomplete() && store.complaints().is_empty());
        }
    }

    #[test]
    fn a_folder_that_vanishes_takes_its_files_with_it() {
        let endpoint =
            r#"{"pod":"p","namespace":"n","interface":"cali1","addresses":["192.168.1.2"]}"#;
        let directory = directory(&[
            ("endpoints/n1/a.json", endpoint),
            ("endpoints/n2/b.json", endpoint),
        ]);
        let mut store = Store::open(directory.path(), "a").unwrap();
        assert_eq!(store.snapshot().endpoints.len(), 2);
        fs::remove_dir_all(directory.path().join("endpoints/n1")).unwrap();
        assert!(store.reload_all());
        assert_eq!(store.snapshot().endpoints.len(), 1);
        assert!(!store.reload_all(), "nothing changed since");
    }
}
