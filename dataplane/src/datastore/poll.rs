//! Watching the datastore without inotify: a folder into which a file was renamed has a new
//! modification time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Folder;
use super::watch::Change;

/// Looking takes at most this part of the agent's time (one half per cent).
const SHARE: u32 = 200;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// A folder changed this shortly ago may change again without a new time stamp, since stamps
/// advance with the timer tick only; it is looked at once more.
const TICK: Duration = Duration::from_millis(20);

pub(crate) struct Polling {
    root: PathBuf,
    /// `None`: too fresh to tell by its time stamp whether it changes again.
    seen: BTreeMap<Folder, Option<SystemTime>>,
    pause: Duration,
}

impl Polling {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            seen: BTreeMap::new(),
            pause: SHORTEST,
        }
    }

    /// Waits for the next changes; the first call reports every folder there is.
    pub(crate) async fn changed(&mut self) -> Vec<Change> {
        loop {
            tokio::time::sleep(self.pause).await;
            let begin = Instant::now();
            let changes = self.look();
            self.pause = (begin.elapsed() * SHARE).clamp(SHORTEST, LONGEST);
            if !changes.is_empty() {
                return changes;
            }
        }
    }

    fn look(&mut self) -> Vec<Change> {
        let now = SystemTime::now();
        let mut changed = Vec::new();
        let mut seen = BTreeMap::new();
        for folder in super::store::folders(&self.root) {
            let path = self.root.join(folder.path());
            let Ok(modified) = path.metadata().and_then(|metadata| metadata.modified()) else {
                continue;
            };
            if self.seen.remove(&folder) != Some(Some(modified)) {
                changed.push(Change::Folder(folder.clone()));
            }
            let settled = now.duration_since(modified).is_ok_and(|age| age > TICK);
            seen.insert(folder, settled.then_some(modified));
        }
        let vanished = std::mem::replace(&mut self.seen, seen);
        changed.extend(vanished.into_keys().map(Change::Folder));
        changed
    }
}
