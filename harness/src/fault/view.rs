//! A node's own view of the datastore: a folder that lies over it, in that node only.
//!
//! The agent goes on watching the folders that it has opened before, those of the datastore
//! itself, and reads by their paths, which lead here. So it hears of changes as before and sees
//! what the view says.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cluster::DATASTORE_IN_NODE;
use crate::datastore::{self, Datastore};
use crate::error::Error;
use crate::machine::Machine;
use crate::namespace::Namespaces;

/// A view that is in place.
#[derive(Debug)]
pub(super) struct View {
    machine: Machine,
    /// Of the life in which it was laid: a crash takes it away.
    namespaces: Namespaces,
    root: OwnedFd,
    datastore: Datastore,
}

impl View {
    /// Lays a view over the datastore of a node and lets the agent look. It is filled before: an
    /// agent never sees half of it.
    pub(super) fn lay(
        machine: &Machine,
        datastore: &Datastore,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Arc<Self>, Error> {
        let namespaces = machine.live()?.namespaces();
        let root = namespaces.cover(Path::new(DATASTORE_IN_NODE), None, fill)?;
        let view = Self {
            machine: machine.clone(),
            namespaces,
            root,
            datastore: datastore.clone(),
        };
        if let Err(error) = view.nudge() {
            view.namespaces.uncover(Path::new(DATASTORE_IN_NODE))?;
            return Err(error);
        }
        Ok(Arc::new(view))
    }

    /// Where the harness finds it, as long as the value lives.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.root.as_raw_fd()).into()
    }

    pub(super) fn datastore(&self) -> &Datastore {
        &self.datastore
    }

    /// Copies one file as it is now, or removes it where there is none.
    pub(super) fn update(&self, file: &Path) -> io::Result<()> {
        copy(&self.datastore, &self.path(), file)
    }

    /// Lets the agent look at it.
    pub(super) fn nudge(&self) -> Result<(), Error> {
        Ok(self.datastore.nudge()?)
    }

    /// Takes it away. An agent that was started meanwhile watches the view: it is told, too.
    pub(super) fn lift(&self) -> Result<(), Error> {
        let same_life = self.machine.live().is_ok()
            && self.machine.namespaces().net_inode() == self.namespaces.net_inode();
        if same_life {
            self.namespaces.uncover(Path::new(DATASTORE_IN_NODE))?;
            datastore::nudge(&self.path())?;
        }
        self.nudge()
    }
}

/// Copies the whole datastore.
pub(super) fn copy_all(datastore: &Datastore, view: &Path) -> io::Result<()> {
    for folder in ["pools", "nodes", "endpoints"] {
        std::fs::create_dir_all(view.join(folder))?;
    }
    for file in datastore.files().map_err(io::Error::other)? {
        copy(datastore, view, &file)?;
    }
    Ok(())
}

fn copy(datastore: &Datastore, view: &Path, file: &Path) -> io::Result<()> {
    let target = view.join(file);
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match std::fs::read(datastore.path().join(file)) {
        Ok(content) => {
            let folder = target.parent().unwrap_or(view);
            std::fs::create_dir_all(folder)?;
            let mut new = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
            io::Write::write_all(&mut new, &content)?;
            new.persist(&target)?;
            Ok(())
        }
        Err(error) if gone(&error) => match std::fs::remove_file(&target) {
            Err(error) if !gone(&error) => Err(error),
            _ => Ok(()),
        },
        Err(error) => Err(error),
    }
}
