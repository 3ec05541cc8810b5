//! The faults of one cluster: which there are, and how each is healed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::BoxFuture;

use super::error::{FaultError, Site};
use super::fabric::Table;
use super::guard::Fault;
use crate::error::Error;
use crate::event::{EventLog, Kind};
use crate::process::Freezer;

/// The faults of one cluster. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    entries: Mutex<Vec<Arc<Entry>>>,
    /// Who talks over which port of the fabric; held while its rules are changed.
    table: tokio::sync::Mutex<Table>,
    /// Who has stopped which processes.
    freezer: Freezer,
}

/// What puts everything back. May be asked again when it failed.
type Action<T> = Box<dyn Fn() -> BoxFuture<'static, Result<T, Error>> + Send + Sync>;

/// What a verb leaves behind: the way back.
pub(crate) struct Inverse {
    heal: Action<()>,
    dropped: Option<Action<u64>>,
    /// Whether it needs what other faults have taken away.
    needs_others: bool,
}

impl Inverse {
    pub(crate) fn new<F>(heal: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        Self {
            heal: Box::new(move || Box::pin(heal())),
            dropped: None,
            needs_others: false,
        }
    }

    /// Healed after those that are not: it waits for an agent, and an agent for its network.
    pub(crate) fn after_others(mut self) -> Self {
        self.needs_others = true;
        self
    }

    /// With the number of packets that it has dropped.
    pub(crate) fn counting<F>(mut self, dropped: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<u64, Error>> + Send + 'static,
    {
        self.dropped = Some(Box::new(move || Box::pin(dropped())));
        self
    }
}

pub(super) struct Entry {
    number: u64,
    pub(super) site: Site,
    /// The machine in whose name events are told; `None` for the whole cluster.
    machine: Option<String>,
    /// What no other fault may have as long as this one is there.
    claim: String,
    events: EventLog,
    registry: Weak<Inner>,
    /// `None` while it is put in, once it is healed, and when its cluster is gone.
    inverse: tokio::sync::Mutex<Option<Arc<Inverse>>>,
    active: std::sync::atomic::AtomicBool,
}

/// What a fault is called, where it is and what it claims.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) site: Site,
    pub(crate) machine: Option<String>,
    /// Two faults with the same claim exclude each other; `None` for those that add up.
    pub(crate) claim: Option<String>,
}

impl Faults {
    /// The number of the next fault: names of kernel objects are made of it.
    pub(crate) fn next_number(&self) -> u64 {
        self.inner.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Who has stopped which processes.
    pub(super) fn freezer(&self) -> &Freezer {
        &self.inner.freezer
    }

    /// The rules in the fabric.
    pub(super) fn table(&self) -> &tokio::sync::Mutex<Table> {
        &self.inner.table
    }

    /// Puts a fault in: claims its place, lets `apply` do it, remembers the way back and tells the
    /// event log. What `apply` has done when it fails it must have undone.
    pub(crate) async fn put(
        &self,
        placement: Placement,
        events: &EventLog,
        apply: impl Future<Output = Result<Inverse, Error>>,
    ) -> Result<Fault, Error> {
        let entry = self.claim(placement, events)?;
        // Gives the place back also when this future is dropped half-way.
        let unfinished = Unfinished(&entry);
        let inverse = apply.await?;
        *entry.inverse.lock().await = Some(Arc::new(inverse));
        entry.active.store(true, Ordering::Release);
        std::mem::forget(unfinished);
        entry.record(Kind::FaultApplied {
            fault: entry.site.fault.clone(),
            target: entry.site.target.clone(),
        });
        Ok(Fault { entry })
    }

    fn claim(&self, placement: Placement, events: &EventLog) -> Result<Arc<Entry>, Error> {
        let number = self.next_number();
        let claim = placement.claim.unwrap_or_else(|| format!("#{number}"));
        let mut entries = self.entries();
        if let Some(held) = entries.iter().find(|entry| entry.claim == claim) {
            return Err(placement.site.held(&held.site));
        }
        let entry = Arc::new(Entry {
            number,
            site: placement.site,
            machine: placement.machine,
            claim,
            events: events.clone(),
            registry: Arc::downgrade(&self.inner),
            inverse: tokio::sync::Mutex::default(),
            active: false.into(),
        });
        entries.push(Arc::clone(&entry));
        Ok(entry)
    }

    /// The faults that are in place, in the order in which they were put in.
    pub(crate) fn active(&self) -> Vec<Fault> {
        let entries = self.entries();
        let active = entries.iter().filter(|entry| entry.is_active()).cloned();
        active.map(|entry| Fault { entry }).collect()
    }

    /// Heals all of them, the last one first; those that wait for an agent come after the others.
    /// What failed is tried once more when everything else is healed.
    pub(crate) async fn heal_all(&self) -> Result<(), Error> {
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for fault in self.active().into_iter().rev() {
            match fault.entry.needs_others().await {
                true => late.push(fault),
                false => early.push(fault),
            }
        }
        let mut failed = Vec::new();
        for fault in early.into_iter().chain(late) {
            if fault.heal().await.is_err() {
                failed.push(fault);
            }
        }
        let mut failures = Vec::new();
        for fault in failed {
            if let Err(error) = fault.heal().await {
                failures.push((fault.to_string(), error));
            }
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(FaultError::NotHealed { failures }.into()),
        }
    }

    /// Forgets all of them: their machines are going. The ways back hold machines, which hold
    /// this value: without this nobody would ever let go.
    pub(crate) fn forget(&self) {
        for entry in self.entries().drain(..) {
            entry.active.store(false, Ordering::Release);
            // Held only by somebody who is healing it, and then it goes with that.
            if let Ok(mut inverse) = entry.inverse.try_lock() {
                *inverse = None;
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.inner.entries()
    }
}

impl Inner {
    fn entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    pub(super) async fn heal(&self) -> Result<(), Error> {
        let mut inverse = self.inverse.lock().await;
        let Some(way_back) = inverse.clone().filter(|_| self.is_active()) else {
            return Ok(());
        };
        (way_back.heal)().await?;
        *inverse = None;
        self.active.store(false, Ordering::Release);
        self.release();
        self.record(Kind::FaultHealed {
            fault: self.site.fault.clone(),
            target: self.site.target.clone(),
        });
        Ok(())
    }

    async fn needs_others(&self) -> bool {
        let inverse = self.inverse.lock().await;
        inverse.as_ref().is_some_and(|way| way.needs_others)
    }

    pub(super) async fn dropped(&self) -> Result<Option<u64>, Error> {
        // Not under the lock: a fault that is being healed can still be asked.
        let inverse = self.inverse.lock().await.clone();
        match inverse.as_ref().and_then(|i| i.dropped.as_ref()) {
            Some(dropped) => dropped().await.map(Some),
            None => Ok(None),
        }
    }

    fn release(&self) {
        if let Some(registry) = self.registry.upgrade() {
            registry
                .entries()
                .retain(|entry| entry.number != self.number);
        }
    }

    fn record(&self, kind: Kind) {
        match &self.machine {
            Some(machine) => self.events.record_at(machine.clone(), kind),
            None => self.events.record(kind),
        }
    }
}

struct Unfinished<'a>(&'a Entry);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.active()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn placement(target: &str, claim: Option<&str>) -> Placement {
        Placement {
            site: Site::new("break", target),
            machine: Some("n1".into()),
            claim: claim.map(str::to_owned),
        }
    }

    async fn put(faults: &Faults, target: &str, healed: &Arc<Mutex<Vec<String>>>) -> Fault {
        let events = EventLog::new();
        let (name, healed) = (target.to_owned(), Arc::clone(healed));
        let inverse = Inverse::new(move || {
            healed.lock().unwrap().push(name.clone());
            async { Ok(()) }
        });
        let applied = faults.put(placement(target, Some(target)), &events, async {
            Ok(inverse)
        });
        applied.await.unwrap()
    }

    #[tokio::test]
    async fn all_are_healed_once_and_the_last_one_first() {
        let (faults, healed) = (Faults::default(), Arc::default());
        let one = put(&faults, "one", &healed).await;
        put(&faults, "two", &healed).await;
        put(&faults, "three", &healed).await;
        one.heal().await.unwrap();
        one.heal().await.unwrap();
        faults.heal_all().await.unwrap();
        faults.heal_all().await.unwrap();
        assert_eq!(*healed.lock().unwrap(), ["one", "three", "two"]);
        assert!(!one.is_active() && faults.active().is_empty());
    }

    #[tokio::test]
    async fn what_needs_the_others_is_healed_after_them() {
        let (faults, healed) = (Faults::default(), Arc::default());
        let events = EventLog::new();
        put(&faults, "one", &healed).await;
        for name in ["agent", "other agent"] {
            let healed: Arc<Mutex<Vec<String>>> = Arc::clone(&healed);
            let inverse = Inverse::new(move || {
                healed.lock().unwrap().push(name.to_owned());
                async { Ok(()) }
            });
            let inverse = async { Ok(inverse.after_others()) };
            let applied = faults.put(placement(name, None), &events, inverse);
            applied.await.unwrap();
        }
        put(&faults, "two", &healed).await;
        faults.heal_all().await.unwrap();
        assert_eq!(
            *healed.lock().unwrap(),
            ["two", "one", "other agent", "agent"]
        );
    }

    /// A fault that another one stands in the way of, whatever their order.
    #[tokio::test]
    async fn what_failed_is_tried_again_when_the_others_are_healed() {
        let (faults, healed) = (Faults::default(), Arc::default());
        let events = EventLog::new();
        put(&faults, "obstacle", &healed).await;
        let others: Arc<Mutex<Vec<String>>> = Arc::clone(&healed);
        let inverse = Inverse::new(move || {
            let free = !others.lock().unwrap().is_empty();
            async move {
                match free {
                    true => Ok(()),
                    false => Err(Site::new("break", "it").no_effect("stuck")),
                }
            }
        });
        let stuck = faults.put(placement("it", None), &events, async { Ok(inverse) });
        let stuck = stuck.await.unwrap();
        faults.heal_all().await.unwrap();
        assert!(!stuck.is_active());
    }

    #[tokio::test]
    async fn a_place_is_taken_until_it_is_healed_and_free_after_a_failure() {
        let (faults, healed) = (Faults::default(), Arc::default());
        let events = EventLog::new();
        let one = put(&faults, "one", &healed).await;
        let again = faults.put(placement("one", Some("one")), &events, async {
            panic!("must not be tried")
        });
        let error = again.await.unwrap_err().to_string();
        assert_eq!(
            error,
            "break at one: break at one is there already\nhint: heal that one first"
        );
        one.heal().await.unwrap();
        let failing = faults.put(placement("one", Some("one")), &events, async {
            Err(Site::new("break", "one").no_effect("it is broken"))
        });
        assert!(failing.await.is_err());
        put(&faults, "one", &healed).await;
    }

    #[tokio::test]
    async fn one_that_cannot_be_healed_stays_and_the_others_go() {
        let (faults, healed) = (Faults::default(), Arc::default());
        put(&faults, "one", &healed).await;
        let tries = Arc::new(AtomicUsize::new(0));
        let inverse = Inverse::new(move || {
            let tried = tries.fetch_add(1, Ordering::Relaxed);
            async move {
                match tried {
                    // Once, and once more after the others.
                    0 | 1 => Err(Site::new("break", "two").no_effect("stuck")),
                    _ => Ok(()),
                }
            }
        });
        let events = EventLog::new();
        let stuck = faults.put(placement("two", None), &events, async { Ok(inverse) });
        let stuck = stuck.await.unwrap();
        let error = faults.heal_all().await.unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot heal break at two: break at two would change nothing: stuck"
        );
        assert!(stuck.is_active());
        assert_eq!(*healed.lock().unwrap(), ["one"]);
        faults.heal_all().await.unwrap();
        let told: Vec<String> = events.all().iter().map(|e| e.kind.to_string()).collect();
        assert_eq!(told, ["fault: break at two", "healed: break at two"]);
    }
}
