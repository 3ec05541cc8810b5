//! Scopes: which clusters belong to a test, and how long they live when it ends.
//!
//! A test that fails drops its handles before anybody can see that it has failed: while a panic
//! unwinds, or while `?` leaves the function. Evidence must be collected from a cluster that is
//! still there. So a cluster that was booted in a scope and whose last handle was dropped is kept,
//! but only as long as the poll lasts in which that happened: if the test goes on, at its next
//! await, the cluster is taken down; if the test has ended, its end is known then.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use tempfile::TempPath;

use crate::cluster::Inner;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
}

/// The clusters of one test.
pub(crate) struct Scope {
    belongings: Mutex<Belongings>,
}

#[derive(Default)]
struct Belongings {
    /// All that were booted, in their order.
    booted: Vec<Weak<Inner>>,
    /// Those without a handle that are kept until the poll ends.
    released: Vec<Arc<Inner>>,
    /// Files that captures write, in the order in which they were begun; some may be gone.
    captures: Vec<PathBuf>,
    /// Those whose captures have ended: they are removed when the poll ends.
    files: Vec<TempPath>,
    /// Nothing is kept any more.
    closed: bool,
}

/// What a panicking future leaves.
pub(crate) type Payload = Box<dyn Any + Send>;

impl Scope {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            belongings: Mutex::default(),
        })
    }

    /// The scope in which the calling thread is.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// From now on the calling thread is in this scope, until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        Entered {
            before: CURRENT.replace(Some(Arc::clone(self))),
        }
    }

    /// Drives `future` in this scope to its end, which may be a panic.
    pub(crate) async fn watch<F: Future>(
        self: &Arc<Self>,
        future: F,
    ) -> Result<F::Output, Payload> {
        let mut future = pin!(future);
        poll_fn(|context| {
            let _entered = self.enter();
            // A future that has panicked is not polled again.
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                Ok(Poll::Pending) => {
                    self.take_down();
                    Poll::Pending
                }
                Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                Err(payload) => Poll::Ready(Err(payload)),
            }
        })
        .await
    }

    /// A cluster belongs to this scope from now on.
    pub(crate) fn booted(&self, cluster: &Arc<Inner>) {
        self.belongings().booted.push(Arc::downgrade(cluster));
    }

    /// The last handle on a cluster of this scope is gone.
    pub(crate) fn released(&self, cluster: &Arc<Inner>) {
        let mut own = self.belongings();
        if !own.closed {
            own.released.push(Arc::clone(cluster));
        }
    }

    /// A capture writes this file from now on.
    pub(crate) fn captures(&self, file: &Path) {
        self.belongings().captures.push(file.to_owned());
    }

    /// A capture has ended that would remove its file.
    pub(crate) fn leave_file(&self, file: TempPath) {
        let mut own = self.belongings();
        if !own.closed {
            own.files.push(file);
        }
    }

    /// The files of captures that there are still.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let own = self.belongings();
        let files = own.captures.iter().filter(|file| file.is_file());
        files.cloned().collect()
    }

    /// The clusters that there are still, in the order of their boots.
    pub(crate) fn alive(&self) -> Vec<Arc<Inner>> {
        let own = self.belongings();
        own.booted.iter().filter_map(Weak::upgrade).collect()
    }

    /// Takes down what has no handle any more, and keeps nothing from now on.
    pub(crate) fn close(&self) {
        self.belongings().closed = true;
        self.take_down();
    }

    fn take_down(&self) {
        // Out of the lock: taking down takes a while, and drops handles.
        let (released, files) = {
            let mut own = self.belongings();
            let files = std::mem::take(&mut own.files);
            (std::mem::take(&mut own.released), files)
        };
        drop((released, files));
    }

    fn belongings(&self) -> MutexGuard<'_, Belongings> {
        // The lists are whole between any two calls.
        self.belongings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("clusters", &self.belongings().booted.len())
            .finish_non_exhaustive()
    }
}

/// Puts the calling thread back into the scope in which it was.
pub(crate) struct Entered {
    before: Option<Arc<Scope>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}
