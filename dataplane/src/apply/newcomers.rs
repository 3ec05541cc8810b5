//! How long the pods' interfaces have been there.
//!
//! A CNI plugin makes a pod's interface and its routes before the datastore says what they are
//! for. So for a while (10 seconds, as in Calico) routes on a new interface are left alone that
//! nobody has asked for. How old an interface is the kernel does not tell: for the agent it is as
//! old as the first pass that saw it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::POD_INTERFACES;
use crate::desired::Desired;
use crate::platform::Link;

/// The pods' interfaces, known to the datastore or not, and when each was seen first.
#[derive(Debug)]
pub(crate) struct Newcomers {
    grace: Duration,
    first_seen: BTreeMap<u32, Instant>,
}

impl Newcomers {
    /// With a time for which routes on a new interface are left alone.
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            first_seen: BTreeMap::new(),
        }
    }

    /// Notes who has come and gone.
    pub(super) fn look<'a>(
        &mut self,
        links: impl Iterator<Item = &'a Link>,
        desired: &Desired,
        now: Instant,
    ) {
        let is_a_pods = |link: &&Link| {
            link.name.starts_with(POD_INTERFACES) || desired.interfaces.contains(&link.name)
        };
        self.first_seen = links
            .filter(is_a_pods)
            .map(|link| {
                let first_seen = self.first_seen.get(&link.index).copied();
                (link.index, first_seen.unwrap_or(now))
            })
            .collect();
    }

    /// The indices of all of them.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.first_seen.keys().copied()
    }

    /// Until when each of those is left alone that still is at `now`.
    pub(super) fn until(&self, now: Instant) -> BTreeMap<u32, Instant> {
        let all = self.first_seen.iter();
        all.map(|(index, seen)| (*index, *seen + self.grace))
            .filter(|(_, until)| *until > now)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::fake::FakeKernel;
    use crate::fixtures::seed;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn an_interface_is_as_old_as_the_first_look_at_it() {
        let desired = Desired::compute(&seed(), "k8s-worker-1").unwrap();
        let mut kernel = FakeKernel::with_underlay();
        let pod = kernel.add_link("cali0005aea454a", "veth");
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut newcomers = Newcomers::new(GRACE);
        newcomers.look(kernel.links.iter(), &desired, at(0));
        assert_eq!(newcomers.until(at(0)), [(pod, at(10))].into());
        assert_eq!(newcomers.until(at(9)), [(pod, at(10))].into());

        let unknown = kernel.add_link("cali00000000000", "veth");
        newcomers.look(kernel.links.iter(), &desired, at(9));
        assert_eq!(newcomers.until(at(10)), [(unknown, at(19))].into());
        assert_eq!(newcomers.interfaces().collect::<Vec<_>>(), [pod, unknown]);

        // One that goes and comes is new again.
        let links = kernel.links.clone();
        newcomers.look(std::iter::empty(), &desired, at(20));
        newcomers.look(links.iter(), &desired, at(21));
        assert_eq!(newcomers.until(at(30)).len(), 2);
        assert!(newcomers.until(at(31)).is_empty());
    }
}
