//! What every handle holds of its cluster.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use super::Inner;

/// A hold on a cluster, shared by its handles. When the last handle is dropped the cluster is
/// taken down, unless a test ends this very moment and may have failed: then the
/// [scope](crate::bundle::scope) of the test keeps it until that is known.
pub(crate) struct Hold {
    inner: Arc<Inner>,
}

impl Hold {
    /// The first hold on a cluster, or one more that counts for itself.
    pub(crate) fn new(inner: Arc<Inner>) -> Arc<Self> {
        Arc::new(Self { inner })
    }

    /// What does not keep the cluster, and finds it as long as anybody does.
    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }
}

impl Deref for Hold {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(scope) = &self.inner.scope {
            scope.released(&self.inner);
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
