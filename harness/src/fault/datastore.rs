//! A datastore that is away, late or broken, for one node.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use super::error::Site;
use super::guard::Fault;
use super::random::Random;
use super::registry::{Inverse, Placement};
use super::view::{View, copy_all};
use crate::cluster::Node;
use crate::error::Error;
use crate::event::Kind;

impl Node {
    /// Makes the datastore unreadable for this node: what is in it cannot be opened (`ELOOP`),
    /// and an agent that starts finds nothing. What changes meanwhile it sees once it is healed.
    ///
    /// # Errors
    /// When there is another fault of its datastore.
    pub async fn lose_datastore(&self) -> Result<Fault, Error> {
        self.put_view("datastore unavailable".to_owned(), |_, root| {
            for name in ["pools", "nodes", "endpoints", "config.json"] {
                // A link to itself: nobody can follow it, root included.
                std::os::unix::fs::symlink(name, root.join(name))?;
            }
            Ok(())
        })
        .await
    }

    /// Breaks `count` files of the datastore for this node, chosen by `seed`, each in its own way:
    /// cut, emptied, garbled, or replaced by other JSON. They stay so until it is healed.
    ///
    /// # Errors
    /// When there are fewer files, or there is another fault of its datastore.
    pub async fn corrupt_datastore(&self, seed: u64, count: u32) -> Result<Fault, Error> {
        let name = format!("datastore corrupt in {count} files by seed {seed}");
        let files = self.live()?.datastore().files()?;
        let all = u32::try_from(files.len()).unwrap_or(u32::MAX);
        if count == 0 || count > all {
            let site = Site::new(name, self.name());
            return Err(site.impossible(format!("there are {all} files")));
        }
        self.put_view(name, move |node, root| {
            copy_all(node.datastore(), root)?;
            let mut random = Random::new(seed);
            for index in random.choose(all, count) {
                let path = root.join(&files[index as usize]);
                let good = std::fs::read(&path)?;
                std::fs::write(&path, break_file(&good, &mut random))?;
            }
            Ok(())
        })
        .await
    }

    /// Lets the node see every change of the datastore later by `delay`. Only what the harness
    /// writes counts, [`Datastore::write`](crate::datastore::Datastore::write) included.
    ///
    /// # Errors
    /// When the delay is none, or there is another fault of its datastore.
    pub async fn slow_datastore(&self, delay: Duration) -> Result<Fault, Error> {
        let site = Site::new(format!("datastore late by {delay:?}"), self.name());
        if delay.is_zero() {
            return Err(site.no_effect("that is not late"));
        }
        let faults = self.live()?.faults();
        let mut events = self.events().subscribe();
        let apply = async {
            let datastore = self.datastore();
            let view = View::lay(self, datastore, |root| copy_all(datastore, root))?;
            let (late, mut task) = (Arc::clone(&view), JoinSet::new());
            task.spawn(async move {
                loop {
                    let file = match events.recv().await {
                        Ok(event) => match &event.kind {
                            Kind::DatastoreChanged { file, .. } => Some(file.clone()),
                            _ => continue,
                        },
                        // Too many at once to tell which.
                        Err(RecvError::Lagged(_)) => None,
                        Err(RecvError::Closed) => return,
                    };
                    let late = Arc::clone(&late);
                    tokio::spawn(async move {
                        tokio::time::sleep(delay).await;
                        show(&late, file.as_deref());
                    });
                }
            });
            let task = Arc::new(task);
            Ok(Inverse::new(move || {
                let (view, task) = (Arc::clone(&view), Arc::clone(&task));
                async move {
                    // It ends with the inverse that holds it; a look too many does no harm.
                    drop(task);
                    view.lift()
                }
            }))
        };
        faults
            .put(self.of_datastore(site), self.events(), apply)
            .await
    }

    async fn put_view(
        &self,
        name: String,
        fill: impl FnOnce(&Self, &Path) -> io::Result<()> + Send,
    ) -> Result<Fault, Error> {
        let placement = self.of_datastore(Site::new(name, self.name()));
        let apply = async {
            let view = View::lay(self, self.datastore(), |root| fill(self, root))?;
            Ok(Inverse::new(move || {
                let view = Arc::clone(&view);
                async move { view.lift() }
            }))
        };
        self.live()?
            .faults()
            .put(placement, self.events(), apply)
            .await
    }

    fn of_datastore(&self, site: Site) -> Placement {
        Placement {
            claim: Some(format!("datastore of {}", self.name())),
            machine: Some(self.name().to_owned()),
            site,
        }
    }
}

/// Brings one file of a view up to date, or all of them. A view that was lifted meanwhile is seen
/// by nobody.
fn show(view: &View, file: Option<&str>) {
    let updated = match file {
        Some(file) => view.update(Path::new(file)),
        None => copy_all(view.datastore(), &view.path()),
    };
    if let Err(error) = updated {
        tracing::warn!(%error, "a late view of the datastore");
    }
    view.nudge().ok();
}

/// The content of a file after an accident: never what it was, and never what an agent can use.
fn break_file(good: &[u8], random: &mut Random) -> Vec<u8> {
    let half = good.len() / 2;
    match random.below(4) {
        0 => good[..half].to_vec(),
        1 => Vec::new(),
        2 => {
            let mut bytes = good.to_vec();
            // The brace that begins the object, and some more.
            if let Some(first) = bytes.first_mut() {
                *first = 0xff;
            }
            for _ in 0..half / 8 {
                let place = random.below(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                if let Some(byte) = bytes.get_mut(place as usize) {
                    *byte ^= 0x80;
                }
            }
            bytes
        }
        _ => br#"{"kind":"Secret","data":{"cidr":"fe80::/10","address":7}}"#.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accident_leaves_something_else() {
        let good = br#"{ "address": "10.0.0.1/24", "blocks": [] }"#;
        let mut random = Random::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let bad = break_file(good, &mut random);
            assert_ne!(bad, good);
            seen.insert(bad.len());
        }
        // Cut, empty, as long as before, and other JSON.
        assert_eq!(seen.len(), 4);
    }
}
