//! The files of a cluster: its datastore, its logs, and what its machines see of `/etc`.

use std::path::{Path, PathBuf};

use crate::agent;
use crate::error::Error;
use crate::namespace::{BindMount, MountPlan};
use crate::spec::{Plan, PodPlan};

use super::node::DATASTORE_IN_NODE;

/// The folder of one cluster on the sandbox's tmpfs.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Writes what all machines share and never changes.
    pub(super) fn create(root: &Path) -> Result<Self, Error> {
        let files = Self {
            root: root.to_owned(),
        };
        // Names are in /etc/hosts or they are nowhere: a look-up must not wait for a name server.
        files.write(
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n",
        )?;
        files.write("resolv.conf", "")?;
        Ok(files)
    }

    /// Writes the `/etc/hosts` of all nodes. The file is changed in place: the nodes have it
    /// bound, and a new one would not be theirs.
    pub(super) fn write_hosts(&self, plan: &Plan) -> Result<(), Error> {
        self.write("hosts", &hosts(plan)).map(drop)
    }

    /// Writes the `/etc/hosts` of a pod, in place too. A pod knows itself only.
    pub(super) fn write_pod_hosts(&self, pod: &PodPlan) -> Result<(), Error> {
        let hosts = format!("127.0.0.1 localhost\n{} {}\n", pod.address, pod.name);
        self.write(&pod_hosts(&pod.name), &hosts).map(drop)
    }

    /// Removes what is left of a node, so that one of the same name begins anew.
    pub(super) fn forget_node(&self, name: &str) {
        self.forget(&format!("hostname-{name}"));
        self.forget(&format!("agent-{name}.log"));
        std::fs::remove_dir_all(self.agent_folder(name)).ok();
    }

    /// Removes what is left of a pod.
    pub(super) fn forget_pod(&self, name: &str) {
        self.forget(&format!("hostname-{name}"));
        self.forget(&pod_hosts(name));
    }

    fn forget(&self, name: &str) {
        // It lies on the sandbox's own tmpfs: at worst it goes with the cluster.
        std::fs::remove_file(self.root.join(name)).ok();
    }

    pub(super) fn datastore(&self) -> PathBuf {
        self.root.join("datastore")
    }

    pub(super) fn agent_log(&self, node: &str) -> PathBuf {
        self.root.join(format!("agent-{node}.log"))
    }

    fn agent_folder(&self, node: &str) -> PathBuf {
        self.root.join(format!("agent-{node}"))
    }

    /// Removes what an agent has told others on the node: it lies in `/run`, which no machine has
    /// any more when it comes back.
    pub(super) fn empty_agent_folder(&self, node: &str) {
        // As with `forget`.
        let Ok(files) = std::fs::read_dir(self.agent_folder(node)) else {
            return;
        };
        for file in files.filter_map(Result::ok) {
            std::fs::remove_file(file.path()).ok();
        }
    }

    /// What the agent on `node` says in the file `name` of its folder; `None` if it does not.
    pub(super) fn pod_mtu(&self, node: &str, name: &str) -> Option<u32> {
        let path = self.agent_folder(node).join(name);
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// A node knows every node by name, sees the datastore, and has a folder for its agent.
    pub(super) fn node_mounts(&self, name: &str) -> Result<MountPlan, Error> {
        let mut binds = self.etc(name, self.root.join("hosts"))?;
        binds.push(BindMount {
            source: self.datastore(),
            target: DATASTORE_IN_NODE.into(),
        });
        let agent = self.agent_folder(name);
        std::fs::create_dir_all(&agent).map_err(|source| Error::State {
            operation: "make",
            path: agent.clone(),
            source,
        })?;
        binds.push(BindMount {
            source: agent,
            target: agent::FOLDER.into(),
        });
        Ok(MountPlan { binds })
    }

    pub(super) fn pod_mounts(&self, pod: &PodPlan) -> Result<MountPlan, Error> {
        self.write_pod_hosts(pod)?;
        Ok(MountPlan {
            binds: self.etc(&pod.name, self.root.join(pod_hosts(&pod.name)))?,
        })
    }

    fn etc(&self, hostname: &str, hosts: PathBuf) -> Result<Vec<BindMount>, Error> {
        let hostname = self.write(&format!("hostname-{hostname}"), &format!("{hostname}\n"))?;
        let bind = |source: PathBuf, target: &str| BindMount {
            source,
            target: target.into(),
        };
        Ok(vec![
            bind(hosts, "/etc/hosts"),
            bind(hostname, "/etc/hostname"),
            bind(self.root.join("nsswitch.conf"), "/etc/nsswitch.conf"),
            bind(self.root.join("resolv.conf"), "/etc/resolv.conf"),
        ])
    }

    fn write(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        match std::fs::write(&path, content) {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::State {
                operation: "write",
                path,
                source,
            }),
        }
    }
}

fn pod_hosts(name: &str) -> String {
    format!("hosts-{name}")
}

/// The `/etc/hosts` of every node.
fn hosts(plan: &Plan) -> String {
    let nodes = plan
        .nodes
        .iter()
        .map(|node| format!("{} {}\n", node.address.addr(), node.name));
    std::iter::once("127.0.0.1 localhost\n".to_owned())
        .chain(nodes)
        .collect()
}
