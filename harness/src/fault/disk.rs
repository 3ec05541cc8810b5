//! A disk that is full.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::error::Site;
use super::guard::Fault;
use super::registry::{Inverse, Placement};
use crate::agent::FOLDER;
use crate::cluster::Node;
use crate::error::Error;

/// The least that a tmpfs can hold on machines with pages of 4 to 64 KiB, and some files.
const SIZE: u64 = 1 << 18;

impl Node {
    /// Fills the disk that the agent keeps its files on ([`FOLDER`]): what is there can be read,
    /// and nothing can be written any more (`ENOSPC`). What an agent manages to write there all
    /// the same is gone once it is healed.
    ///
    /// # Errors
    /// When it is full already.
    pub async fn fill_agent_disk(&self) -> Result<Fault, Error> {
        let site = Site::new("disk full", format!("{}:{FOLDER}", self.name()));
        let placement = Placement {
            claim: Some(site.to_string()),
            machine: Some(self.name().to_owned()),
            site,
        };
        let faults = self.live()?.faults();
        let apply = async {
            let (machine, life) = ((**self).clone(), self.namespaces());
            let folder = Path::new(FOLDER);
            let before = life.in_mounts(|| read_all(folder))?;
            let before = before.map_err(|source| Error::State {
                operation: "read",
                path: FOLDER.into(),
                source,
            })?;
            life.cover(folder, Some(SIZE), |root| fill(root, &before))?;
            Ok(Inverse::new(move || {
                let (machine, life) = (machine.clone(), life.clone());
                async move {
                    // A crash takes it away.
                    let same_life = machine.live().is_ok()
                        && machine.namespaces().net_inode() == life.net_inode();
                    match same_life {
                        true => Ok(life.uncover(Path::new(FOLDER))?),
                        false => Ok(()),
                    }
                }
            }))
        };
        faults.put(placement, self.events(), apply).await
    }
}

fn read_all(folder: &Path) -> io::Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let files = std::fs::read_dir(folder)?.map(|entry| {
        let entry = entry?;
        Ok((entry.file_name(), std::fs::read(entry.path())?))
    });
    files.collect()
}

/// Puts back what was there, and fills the rest to the last byte.
fn fill(root: &Path, before: &[(std::ffi::OsString, Vec<u8>)]) -> io::Result<()> {
    for (name, content) in before {
        std::fs::write(root.join(name), content)?;
    }
    let mut filler = File::create(root.join(".full"))?;
    loop {
        match filler.write(&[0; 4096]) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            other => other?,
        };
    }
}
