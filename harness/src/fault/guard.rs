//! A fault that was put in, and the way to take it out again.

use std::fmt;
use std::sync::Arc;

use super::error::Site;
use super::registry::Entry;
use crate::error::Error;

/// A fault that was put in. It stays when this value is dropped: heal it, or leave that to
/// [`Cluster::heal_all`](crate::Cluster::heal_all) or the end of the cluster.
#[derive(Clone)]
pub struct Fault {
    pub(super) entry: Arc<Entry>,
}

impl Fault {
    /// Takes it out again: what the fault has changed is as it was before. One that is healed
    /// already, also by [`heal_all`](crate::Cluster::heal_all), is left as it is.
    ///
    /// # Errors
    /// When the kernel refuses it; it can be tried again.
    pub async fn heal(&self) -> Result<(), Error> {
        self.entry.heal().await
    }

    /// Whether it is in place.
    pub fn is_active(&self) -> bool {
        self.entry.is_active()
    }

    /// Which fault it is, as the event log tells it.
    pub fn name(&self) -> &str {
        &self.site().fault
    }

    /// Where it is, as the event log tells it.
    pub fn target(&self) -> &str {
        &self.site().target
    }

    /// How many packets (Ethernet frames, for partitions) it has dropped so far; `None` when it
    /// is no fault that drops packets by itself, or is healed.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn dropped(&self) -> Result<Option<u64>, Error> {
        self.entry.dropped().await
    }

    fn site(&self) -> &Site {
        &self.entry.site
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("name", &self.name())
            .field("target", &self.target())
            .field("active", &self.is_active())
            .finish()
    }
}

/// `link down at k8s-worker-1/eth0`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.site().fmt(f)
    }
}
