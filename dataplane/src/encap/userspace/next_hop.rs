//! The kernel's routing table as the packet path sees it: answers of the kernel, remembered
//! until anything changes there.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::netlink::lookup::RouteLookup;

/// Where answers come from.
pub(super) trait Routing {
    /// The gateway by which a packet to `destination` leaves through `interface`.
    fn gateway(&mut self, destination: Ipv4Addr, interface: u32) -> Option<Ipv4Addr>;
    /// Whether answers may be others than at the last call.
    fn changed(&mut self) -> bool;
}

impl Routing for RouteLookup {
    fn gateway(&mut self, destination: Ipv4Addr, interface: u32) -> Option<Ipv4Addr> {
        RouteLookup::gateway(self, destination, interface)
    }

    fn changed(&mut self) -> bool {
        RouteLookup::changed(self)
    }
}

/// More destinations than that at a time are a scan; it shall not fill the memory.
const MOST: usize = 8192;

/// A packet that was routed into the tunnel and has waited here while its route went elsewhere is
/// still sent on as that route said: a kernel device would have done it at once.
const WAITED: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct NextHops<R> {
    routing: R,
    tunnel: u32,
    /// Not that there is none: it may be for lack of memory, and hardly any packet comes into
    /// the tunnel without a route.
    known: HashMap<Ipv4Addr, Ipv4Addr>,
    /// What was known until shortly before the last change, and when that was.
    former: HashMap<Ipv4Addr, Ipv4Addr>,
    changed: Option<Instant>,
}

impl<R: Routing> NextHops<R> {
    /// Routes through the interface with index `tunnel`.
    pub(super) fn new(routing: R, tunnel: u32) -> Self {
        Self {
            routing,
            tunnel,
            known: HashMap::new(),
            former: HashMap::new(),
            changed: None,
        }
    }

    /// To be called before packets are looked up: asks for everything again if a route may have
    /// changed. A thousand routes may change at once; what of it is needed is asked for.
    pub(super) fn refresh(&mut self) {
        if !self.routing.changed() {
            return;
        }
        if !self.has_waited() || self.former.len() + self.known.len() > MOST {
            self.former.clear();
        }
        self.former.extend(self.known.drain());
        self.changed = Some(Instant::now());
    }

    /// Whether packets from before the last change may still be here.
    fn has_waited(&self) -> bool {
        self.changed.is_some_and(|at| at.elapsed() < WAITED)
    }

    /// The node that `destination` is routed to.
    pub(super) fn gateway(&mut self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        if let Some(gateway) = self.known.get(&destination) {
            return Some(*gateway);
        }
        let Some(gateway) = self.routing.gateway(destination, self.tunnel) else {
            let former = self.former.get(&destination).copied();
            return former.filter(|_| self.has_waited());
        };
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(destination, gateway);
        Some(gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Table {
        gateway: Option<Ipv4Addr>,
        changed: bool,
        asked: usize,
    }

    impl Routing for Table {
        fn gateway(&mut self, _: Ipv4Addr, interface: u32) -> Option<Ipv4Addr> {
            assert_eq!(interface, 7);
            self.asked += 1;
            self.gateway
        }

        fn changed(&mut self) -> bool {
            std::mem::take(&mut self.changed)
        }
    }

    #[test]
    fn the_kernel_is_asked_once_and_again_after_a_change() {
        let pod = Ipv4Addr::new(192, 168, 2, 6);
        let [one, two] = [3, 4].map(|host| Ipv4Addr::new(10, 12, 22, host));
        let mut hops = NextHops::new(Table::default(), 7);
        assert_eq!(hops.gateway(pod), None);
        hops.routing.gateway = Some(one);
        assert_eq!(hops.gateway(pod), Some(one), "none is not remembered");
        hops.routing.gateway = Some(two);
        hops.refresh();
        assert_eq!(hops.gateway(pod), Some(one), "nothing is said to differ");
        assert_eq!(hops.routing.asked, 2);
        hops.routing.changed = true;
        hops.refresh();
        assert_eq!(hops.gateway(pod), Some(two));
    }

    #[test]
    fn packets_that_have_waited_go_where_their_route_led() {
        let pod = Ipv4Addr::new(192, 168, 2, 6);
        let node = Ipv4Addr::new(10, 12, 22, 3);
        let mut hops = NextHops::new(Table::default(), 7);
        hops.routing.gateway = Some(node);
        assert_eq!(hops.gateway(pod), Some(node));
        hops.routing.gateway = None;
        // One route may be replaced in several steps.
        for _ in 0..2 {
            hops.routing.changed = true;
            hops.refresh();
            assert_eq!(hops.gateway(pod), Some(node));
        }
        hops.changed = hops.changed.and_then(|at| at.checked_sub(WAITED));
        assert_eq!(hops.gateway(pod), None, "no packet waits that long");
    }

    #[test]
    fn a_scan_does_not_fill_the_memory() {
        let mut hops = NextHops::new(Table::default(), 7);
        hops.routing.gateway = Some(Ipv4Addr::LOCALHOST);
        for i in 0..3 * MOST as u32 {
            hops.gateway(Ipv4Addr::from_bits(i));
            hops.routing.changed = i % 1000 == 0;
            hops.refresh();
            assert!(hops.known.len() <= MOST && hops.former.len() <= MOST);
        }
    }
}
