//! The datastore: a folder of small JSON files through which the harness, in the place of a
//! control plane, tells the agents of one cluster what there is.
//!
//! `pools/NAME.json`, `nodes/NAME.json` and `endpoints/NODE/ID.json` are each replaced by a
//! rename, so that a reader sees the old or the new content and never half of one. Names that
//! begin with a dot are files in the making.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::event::{EventLog, Kind};
use crate::netlink::MacAddress;
use crate::spec::{Encapsulation, NodePlan, PodPlan, PoolPlan};

/// A datastore file could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} datastore file {path}: {source}", path = .path.display())]
pub struct DatastoreError {
    /// What was tried.
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl DatastoreError {
    fn new(operation: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            operation,
            path,
            source,
        }
    }
}

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub struct Datastore {
    root: PathBuf,
    events: EventLog,
}

#[derive(Serialize)]
struct Pool {
    cidr: Ipv4Net,
    block_size: u8,
    encapsulation: Encapsulation,
    nat_outgoing: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel_mtu: Option<u32>,
}

#[derive(Serialize)]
struct Node<'a> {
    address: Ipv4Net,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel_address: Option<Ipv4Addr>,
    blocks: &'a [Ipv4Net],
}

#[derive(Serialize)]
struct Endpoint<'a> {
    pod: &'a str,
    namespace: &'a str,
    interface: String,
    addresses: [Ipv4Addr; 1],
    mac: MacAddress,
}

impl Datastore {
    /// Makes the folders at `root`.
    pub(crate) fn create(root: PathBuf, events: EventLog) -> Result<Self, DatastoreError> {
        let store = Self { root, events };
        for folder in ["pools", "nodes", "endpoints"] {
            store.make_folder(&store.root.join(folder))?;
        }
        Ok(store)
    }

    pub(crate) fn put_pool(&self, pool: &PoolPlan) -> Result<(), DatastoreError> {
        let content = Pool {
            cidr: pool.cidr,
            block_size: pool.block_size,
            encapsulation: pool.encapsulation,
            nat_outgoing: pool.nat_outgoing,
            tunnel_mtu: pool.tunnel_mtu,
        };
        self.put(&format!("pools/{}.json", pool.name), &content)
    }

    pub(crate) fn put_node(&self, node: &NodePlan) -> Result<(), DatastoreError> {
        self.make_folder(&self.root.join("endpoints").join(&node.name))?;
        let content = Node {
            address: node.address,
            tunnel_address: node.tunnel_address,
            blocks: &node.blocks,
        };
        self.put(&format!("nodes/{}.json", node.name), &content)
    }

    pub(crate) fn put_endpoint(&self, pod: &PodPlan) -> Result<(), DatastoreError> {
        let content = Endpoint {
            pod: &pod.name,
            namespace: &pod.namespace,
            interface: pod.host_interface(),
            addresses: [pod.address],
            mac: pod.mac(),
        };
        self.put(&endpoint_path(pod), &content)
    }

    pub(crate) fn remove_pool(&self, name: &str) -> Result<(), DatastoreError> {
        missing_is_good(self.remove(&format!("pools/{name}.json")))
    }

    /// Removes a node and whatever is left of its endpoints.
    pub(crate) fn remove_node(&self, name: &str) -> Result<(), DatastoreError> {
        missing_is_good(self.remove(&format!("nodes/{name}.json")))?;
        let endpoints = self.root.join("endpoints").join(name);
        let removed = std::fs::remove_dir_all(&endpoints);
        missing_is_good(removed.map_err(DatastoreError::new("remove", endpoints)))
    }

    pub(crate) fn remove_endpoint(&self, pod: &PodPlan) -> Result<(), DatastoreError> {
        missing_is_good(self.remove(&endpoint_path(pod)))
    }

    fn put(&self, path: &str, content: &impl Serialize) -> Result<(), DatastoreError> {
        let text = serde_json::to_vec_pretty(content)
            .map_err(|error| DatastoreError::new("write", self.root.join(path))(error.into()))?;
        self.write(path, &text)
    }

    /// Replaces the file `path` (relative, `nodes/k8s-worker-1.json`) by `content`, in one step.
    ///
    /// The content is not checked: tests write broken files on purpose.
    ///
    /// # Errors
    /// When the file system refuses it.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<(), DatastoreError> {
        let target = self.root.join(path);
        let write = || -> io::Result<()> {
            let folder = target.parent().unwrap_or(&self.root);
            let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
            file.write_all(content)?;
            file.persist(&target)?;
            Ok(())
        };
        write().map_err(DatastoreError::new("write", target.clone()))?;
        self.changed(path, true);
        Ok(())
    }

    /// The content of the file `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, DatastoreError> {
        let target = self.root.join(path);
        std::fs::read(&target).map_err(DatastoreError::new("read", target))
    }

    /// Removes the file `path`.
    ///
    /// # Errors
    /// When there is none, or the file system refuses it.
    pub fn remove(&self, path: &str) -> Result<(), DatastoreError> {
        let target = self.root.join(path);
        std::fs::remove_file(&target).map_err(DatastoreError::new("remove", target))?;
        self.changed(path, false);
        Ok(())
    }

    /// Lets a folder come and go beside the others: whoever watches the datastore looks at all of
    /// it again. Its content is what it was.
    pub(crate) fn nudge(&self) -> Result<(), DatastoreError> {
        nudge(&self.root)
    }

    /// The paths of all files, relative: `nodes/k8s-worker-1.json`.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, DatastoreError> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let list =
                || -> io::Result<Vec<std::fs::DirEntry>> { std::fs::read_dir(&folder)?.collect() };
            for entry in list().map_err(DatastoreError::new("list", folder.clone()))? {
                let path = entry.path();
                let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                if path.is_dir() {
                    folders.push(path);
                } else if !hidden {
                    files.extend(path.strip_prefix(&self.root).map(Path::to_owned));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    fn changed(&self, path: &str, exists: bool) {
        let file = path.to_owned();
        self.events.record(Kind::DatastoreChanged { file, exists });
    }

    /// The folder, as the harness sees it. Nodes see it at another path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn make_folder(&self, path: &Path) -> Result<(), DatastoreError> {
        std::fs::create_dir_all(path).map_err(DatastoreError::new("make", path.to_owned()))
    }
}

/// See [`Datastore::nudge`].
pub(crate) fn nudge(root: &Path) -> Result<(), DatastoreError> {
    let path = root.join("nudge");
    let nudge = || -> io::Result<()> {
        std::fs::create_dir(&path)?;
        std::fs::remove_dir(&path)
    };
    nudge().map_err(DatastoreError::new("nudge", path.clone()))
}

fn endpoint_path(pod: &PodPlan) -> String {
    format!("endpoints/{}/{}.{}.json", pod.node, pod.namespace, pod.name)
}

/// A test may have removed the file before.
fn missing_is_good(removed: Result<(), DatastoreError>) -> Result<(), DatastoreError> {
    match removed {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
