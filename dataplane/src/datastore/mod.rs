//! The datastore: a directory of small JSON files, the cluster as its control plane sees it.
//!
//! - [`record`]: what one file may say;
//! - [`Store`]: the files as values, each with its last good content;
//! - [`check`]: faults that only several files together can show;
//! - `watch`: which files changed.

mod check;
#[cfg(test)]
mod hostile;
mod pattern;
mod poll;
pub mod record;
mod store;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use check::{Fault, check};
pub use pattern::InterfacePattern;
pub use record::{Config, Endpoint, Mode, Node, Pool};
pub use store::{Store, StoreError};

/// The cluster at one moment, in terms of the datastore.
///
/// Ordered maps, so that equal contents are equal values whatever the order they were read in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Endpoints by the name of their node and their own id.
    pub endpoints: BTreeMap<(String, String), Endpoint>,
    /// What holds for the whole cluster.
    pub config: Config,
}

/// The one file in the datastore's root, without its ending.
const CONFIG: &str = "config";

/// Which file of the datastore.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum File {
    Config,
    Pool(String),
    Node(String),
    Endpoint(String, String),
}

/// A directory of the datastore that holds files of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Folder {
    /// The datastore itself.
    Root,
    Pools,
    Nodes,
    /// `endpoints`, whose folders are those of the nodes.
    Endpoints,
    /// `endpoints/NODE`.
    EndpointsOf(String),
}

impl Folder {
    /// Relative to the datastore's root.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Root => PathBuf::new(),
            Self::Pools => "pools".into(),
            Self::Nodes => "nodes".into(),
            Self::Endpoints => "endpoints".into(),
            Self::EndpointsOf(node) => PathBuf::from("endpoints").join(node),
        }
    }

    /// The file called `name` here; `None` for names the datastore ignores: those that begin
    /// with a dot (files not yet renamed to what they will be) or do not end in `.json`.
    pub(crate) fn file(&self, name: &str) -> Option<File> {
        let stem = name.strip_suffix(".json")?;
        if stem.is_empty() || stem.starts_with('.') {
            return None;
        }
        let stem = stem.to_owned();
        Some(match self {
            Self::Root if stem == CONFIG => File::Config,
            Self::Root | Self::Endpoints => return None,
            Self::Pools => File::Pool(stem),
            Self::Nodes => File::Node(stem),
            Self::EndpointsOf(node) => File::Endpoint(node.clone(), stem),
        })
    }
}

impl File {
    pub(crate) fn folder(&self) -> Folder {
        match self {
            Self::Config => Folder::Root,
            Self::Pool(_) => Folder::Pools,
            Self::Node(_) => Folder::Nodes,
            Self::Endpoint(node, _) => Folder::EndpointsOf(node.clone()),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        let stem = match self {
            Self::Config => CONFIG,
            Self::Pool(stem) | Self::Node(stem) | Self::Endpoint(_, stem) => stem,
        };
        self.folder().path().join(format!("{stem}.json"))
    }
}

/// The path below the datastore's root, as in `nodes/k8s-worker-1.json`.
impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}
