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

use crate::netlink::MacAddress;
use crate::spec::{Encapsulation, NodePlan, Plan, PodPlan, PoolPlan};

/// A datastore file could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("datastore file {path}: {source}", path = .path.display())]
pub struct DatastoreError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub struct Datastore {
    root: PathBuf,
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
    pub(crate) fn create(root: PathBuf) -> Result<Self, DatastoreError> {
        let store = Self { root };
        for folder in ["pools", "nodes", "endpoints"] {
            store.make_folder(&store.root.join(folder))?;
        }
        Ok(store)
    }

    /// Writes everything that a plan says.
    pub(crate) fn fill(&self, plan: &Plan) -> Result<(), DatastoreError> {
        for pool in &plan.pools {
            self.put_pool(pool)?;
        }
        for node in &plan.nodes {
            self.put_node(node)?;
        }
        for pod in &plan.pods {
            self.put_endpoint(pod, &plan.nodes[pod.node].name)?;
        }
        Ok(())
    }

    fn put_pool(&self, pool: &PoolPlan) -> Result<(), DatastoreError> {
        let content = Pool {
            cidr: pool.cidr,
            block_size: pool.block_size,
            encapsulation: pool.encapsulation,
            nat_outgoing: pool.nat_outgoing,
            tunnel_mtu: pool.tunnel_mtu,
        };
        self.put(&format!("pools/{}.json", pool.name), &content)
    }

    fn put_node(&self, node: &NodePlan) -> Result<(), DatastoreError> {
        self.make_folder(&self.root.join("endpoints").join(&node.name))?;
        let content = Node {
            address: node.address,
            tunnel_address: node.tunnel_address,
            blocks: &node.blocks,
        };
        self.put(&format!("nodes/{}.json", node.name), &content)
    }

    fn put_endpoint(&self, pod: &PodPlan, node: &str) -> Result<(), DatastoreError> {
        let content = Endpoint {
            pod: &pod.name,
            namespace: &pod.namespace,
            interface: pod.host_interface(),
            addresses: [pod.address],
            mac: pod.mac(),
        };
        let path = format!("endpoints/{node}/{}.{}.json", pod.namespace, pod.name);
        self.put(&path, &content)
    }

    fn put(&self, path: &str, content: &impl Serialize) -> Result<(), DatastoreError> {
        let text = serde_json::to_vec_pretty(content).map_err(|error| DatastoreError {
            path: self.root.join(path),
            source: error.into(),
        })?;
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
        write().map_err(|source| DatastoreError {
            path: target.clone(),
            source,
        })
    }

    /// Removes the file `path`.
    ///
    /// # Errors
    /// When there is none, or the file system refuses it.
    pub fn remove(&self, path: &str) -> Result<(), DatastoreError> {
        let target = self.root.join(path);
        std::fs::remove_file(&target).map_err(|source| DatastoreError {
            path: target,
            source,
        })
    }

    /// The content of the file `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, DatastoreError> {
        let target = self.root.join(path);
        std::fs::read(&target).map_err(|source| DatastoreError {
            path: target,
            source,
        })
    }

    /// The folder, as the harness sees it. Nodes see it at another path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn make_folder(&self, path: &Path) -> Result<(), DatastoreError> {
        std::fs::create_dir_all(path).map_err(|source| DatastoreError {
            path: path.to_owned(),
            source,
        })
    }
}
