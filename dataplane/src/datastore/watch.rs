//! Which files of the datastore changed.
//!
//! By inotify, and where the kernel has none left to give (`fs.inotify.max_user_instances` is
//! 128 for a user by default, so the 129th agent of one machine gets none) by polling.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use futures_util::stream::ReadyChunks;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

use super::poll::Polling;
use super::{File, Folder, Store};

/// What has to be read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    File(File),
    Folder(Folder),
    Everything,
}

impl Change {
    /// Reads it again. Returns whether the snapshot changed.
    pub(crate) fn apply(&self, store: &mut Store) -> bool {
        match self {
            Self::File(file) => store.reload(file),
            Self::Folder(folder) => store.reload_folder(folder),
            Self::Everything => store.reload_all(),
        }
    }
}

/// The source of [`Change`]s. It watches before anything is read, so whatever is written after
/// [`Watch::new`] returned is reported.
pub(crate) struct Watch {
    root: PathBuf,
    source: Source,
}

enum Source {
    Inotify(Notifications),
    Polling(Polling),
}

impl Watch {
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(root: &Path) -> Self {
        let source = match Notifications::new(root) {
            Ok(notifications) => Source::Inotify(notifications),
            Err(error) => Source::Polling(fall_back(root, &error)),
        };
        Self {
            root: root.to_owned(),
            source,
        }
    }

    /// Watches what could not be watched before, or is another folder of the same name now.
    pub(crate) fn again(&mut self) {
        if let Source::Inotify(notifications) = &mut self.source
            && let Err(error) = notifications.watch_everything()
        {
            self.source = Source::Polling(fall_back(&self.root, &error));
        }
    }

    /// Waits for the next changes. Cancel-safe: what was not returned comes with the next call.
    pub(crate) async fn changed(&mut self) -> Vec<Change> {
        match &mut self.source {
            Source::Inotify(notifications) => match notifications.changed().await {
                Ok(changes) => changes,
                Err(error) => {
                    self.source = Source::Polling(fall_back(&self.root, &error));
                    vec![Change::Everything]
                }
            },
            Source::Polling(polling) => polling.changed().await,
        }
    }
}

fn fall_back(root: &Path, error: &io::Error) -> Polling {
    tracing::warn!(
        "datastore: cannot watch it by inotify ({error}), polling it instead; \
         hint: raise the sysctls fs.inotify.max_user_instances and max_user_watches"
    );
    Polling::new(root)
}

/// Files that are written by rename arrive by MOVED_TO; CLOSE_WRITE is for those that a person
/// edits in place. CREATE would announce them while they are still empty.
const FILES: WatchMask = WatchMask::MOVED_TO
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::DELETE)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::ONLYDIR);
const FOLDERS: WatchMask = FILES.union(WatchMask::CREATE);

/// How many events one round takes; a burst of a thousand files is a handful of rounds.
const EVENTS: usize = 512;

struct Notifications {
    root: PathBuf,
    watches: Watches,
    places: HashMap<WatchDescriptor, Place>,
    events: ReadyChunks<EventStream<Vec<u8>>>,
}

/// What a watched directory is.
#[derive(Clone)]
enum Place {
    Root,
    Endpoints,
    Folder(Folder),
}

impl Notifications {
    fn new(root: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let events = inotify
            .into_event_stream(vec![0; 16 * 1024])?
            .ready_chunks(EVENTS);
        let mut new = Self {
            root: root.to_owned(),
            watches,
            places: HashMap::new(),
            events,
        };
        new.watch_everything()?;
        Ok(new)
    }

    /// Watching a directory twice is the same as watching it once.
    fn watch_everything(&mut self) -> io::Result<()> {
        self.watch(Place::Root)?;
        self.watch(Place::Endpoints)?;
        for folder in super::store::folders(&self.root) {
            // One directory has one watch: that of the root is set already.
            if folder != Folder::Root {
                self.watch(Place::Folder(folder))?;
            }
        }
        Ok(())
    }

    fn watch(&mut self, place: Place) -> io::Result<()> {
        let (path, mask) = match &place {
            Place::Root => (self.root.clone(), FOLDERS),
            Place::Endpoints => (self.root.join("endpoints"), FOLDERS),
            Place::Folder(folder) => (self.root.join(folder.path()), FILES),
        };
        match self.watches.add(path, mask) {
            Ok(descriptor) => {
                self.places.insert(descriptor, place);
                Ok(())
            }
            // The limits of inotify; nothing else is a reason to do without it.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(nix::libc::ENOSPC | nix::libc::ENOMEM)
                ) =>
            {
                Err(error)
            }
            // Of one that is missing the parent tells when it comes; whoever reads the others
            // sees that they cannot be read, and tries again.
            Err(_) => Ok(()),
        }
    }

    async fn changed(&mut self) -> io::Result<Vec<Change>> {
        loop {
            let Some(events) = self.events.next().await else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let mut changes = Vec::new();
            for event in events {
                changes.extend(self.change(event?)?);
            }
            changes.sort_unstable();
            changes.dedup();
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    fn change(&mut self, event: EventOwned) -> io::Result<Option<Change>> {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.watch_everything()?;
            return Ok(Some(Change::Everything));
        }
        if event.mask.contains(EventMask::IGNORED) {
            self.places.remove(&event.wd);
            return Ok(None);
        }
        let Some(name) = event.name.as_ref().and_then(|name| name.to_str()) else {
            return Ok(None);
        };
        Ok(match self.places.get(&event.wd) {
            None => None,
            Some(Place::Root) if name.starts_with('.') => None,
            Some(Place::Root) => {
                if let Some(file) = Folder::Root.file(name) {
                    let created = event.mask.contains(EventMask::CREATE);
                    return Ok((!created).then_some(Change::File(file)));
                }
                self.watch_everything()?;
                Some(Change::Everything)
            }
            Some(Place::Endpoints) if name.starts_with('.') => None,
            Some(Place::Endpoints) => {
                let folder = Folder::EndpointsOf(name.to_owned());
                self.watch(Place::Folder(folder.clone()))?;
                Some(Change::Folder(folder))
            }
            Some(Place::Folder(folder)) => folder.file(name).map(Change::File),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Collects changes until `wanted` is among them; the test hangs, and names itself, if not.
    async fn until(watch: &mut Watch, wanted: Change) {
        while !watch.changed().await.contains(&wanted) {}
    }

    fn node(name: &str) -> Change {
        Change::File(File::Node(name.into()))
    }

    #[tokio::test]
    async fn folders_that_appear_later_are_watched() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let mut watch = Watch::new(root);
        assert!(matches!(watch.source, Source::Inotify(_)));

        fs::create_dir(root.join("nodes")).unwrap();
        until(&mut watch, Change::Everything).await;
        fs::write(root.join("nodes/.a"), "{}").unwrap();
        fs::rename(root.join("nodes/.a"), root.join("nodes/a.json")).unwrap();
        until(&mut watch, node("a")).await;

        fs::create_dir(root.join("endpoints")).unwrap();
        until(&mut watch, Change::Everything).await;
        fs::write(root.join("config.json"), "{}").unwrap();
        until(&mut watch, Change::File(File::Config)).await;
        let folder = Folder::EndpointsOf("a".into());
        fs::create_dir(root.join("endpoints/a")).unwrap();
        until(&mut watch, Change::Folder(folder)).await;
        fs::write(root.join("endpoints/a/x.json"), "{}").unwrap();
        until(
            &mut watch,
            Change::File(File::Endpoint("a".into(), "x".into())),
        )
        .await;
        fs::remove_file(root.join("nodes/a.json")).unwrap();
        until(&mut watch, node("a")).await;
    }

    #[tokio::test]
    async fn polling_reports_the_folder_that_changed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("endpoints/a")).unwrap();
        let mut watch = Watch {
            root: root.to_owned(),
            source: Source::Polling(Polling::new(root)),
        };
        until(&mut watch, Change::Folder(Folder::EndpointsOf("a".into()))).await;
        fs::create_dir(root.join("nodes")).unwrap();
        until(&mut watch, Change::Folder(Folder::Nodes)).await;
        fs::remove_dir(root.join("endpoints/a")).unwrap();
        until(&mut watch, Change::Folder(Folder::EndpointsOf("a".into()))).await;
    }
}
