//! The kernel's routing table as the packet path sees it: answers of the kernel, remembered
//! until anything changes there.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::netlink::lookup::{Changed, Hop, RouteLookup};

/// Where answers come from.
pub(super) trait Routing {
    /// The gateway by which a packet to `destination` leaves, through `interface` if one is named.
    fn gateway(&mut self, destination: Ipv4Addr, interface: Option<u32>) -> Option<Ipv4Addr>;
    /// The first step on the way to another node.
    fn hop(&mut self, node: Ipv4Addr) -> Option<Hop>;
    /// Which answers may be others than at the last call.
    fn changed(&mut self) -> Changed;
}

impl Routing for RouteLookup {
    fn gateway(&mut self, destination: Ipv4Addr, interface: Option<u32>) -> Option<Ipv4Addr> {
        RouteLookup::gateway(self, destination, interface)
    }

    fn hop(&mut self, node: Ipv4Addr) -> Option<Hop> {
        RouteLookup::hop(self, node)
    }

    fn changed(&mut self) -> Changed {
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
    /// The way to other nodes, also that there is none: of one that comes, the kernel tells.
    hops: HashMap<Ipv4Addr, Option<Hop>>,
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
            hops: HashMap::new(),
        }
    }

    /// To be called before packets are looked up: asks for everything again if a route may have
    /// changed. A thousand routes may change at once; what of it is needed is asked for.
    pub(super) fn refresh(&mut self) {
        let changed = self.routing.changed();
        if changed.routes || changed.neighbours {
            self.hops.clear();
        }
        if changed.routes {
            if !self.has_waited() || self.former.len() + self.known.len() > MOST {
                self.former.clear();
            }
            self.former.extend(self.known.drain());
            self.changed = Some(Instant::now());
        }
    }

    /// The first step on the way to another node.
    pub(super) fn hop(&mut self, node: Ipv4Addr) -> Option<Hop> {
        if let Some(hop) = self.hops.get(&node) {
            return *hop;
        }
        let hop = self.routing.hop(node);
        if self.hops.len() >= MOST {
            self.hops.clear();
        }
        self.hops.insert(node, hop);
        hop
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
        let Some(gateway) = self.routing.gateway(destination, Some(self.tunnel)) else {
            let former = self.former.get(&destination).copied();
            return former.filter(|_| self.has_waited());
        };
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(destination, gateway);
        Some(gateway)
    }

    /// The gateway of a destination that is not routed into the tunnel: a packet may have come in by
    /// a route that was there too shortly to be known. It is not remembered.
    pub(super) fn elsewhere(&mut self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        self.routing.gateway(destination, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;

    #[derive(Default)]
    struct Table {
        gateway: Option<Ipv4Addr>,
        moved: Option<Ipv4Addr>,
        hop: Option<Hop>,
        changed: bool,
        neighbours: bool,
        asked: usize,
    }

    impl Routing for Table {
        fn gateway(&mut self, _: Ipv4Addr, interface: Option<u32>) -> Option<Ipv4Addr> {
            self.asked += 1;
            match interface {
                Some(interface) => {
                    assert_eq!(interface, 7);
                    self.gateway
                }
                None => self.moved,
            }
        }

        fn hop(&mut self, _: Ipv4Addr) -> Option<Hop> {
            self.asked += 1;
            self.hop
        }

        fn changed(&mut self) -> Changed {
            Changed {
                routes: std::mem::take(&mut self.changed),
                neighbours: std::mem::take(&mut self.neighbours),
            }
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
    fn a_neighbour_that_comes_is_noticed_and_asks_for_no_routes() {
        let node = Ipv4Addr::new(10, 12, 22, 3);
        let mut hops = NextHops::new(Table::default(), 7);
        hops.routing.gateway = Some(node);
        hops.gateway(Ipv4Addr::LOCALHOST);
        assert_eq!((hops.hop(node), hops.hop(node)), (None, None));
        assert_eq!(hops.routing.asked, 2, "that there is none is remembered");
        let there = Some(Hop {
            interface: 7,
            mac: Mac([2; 6]),
            mtu: None,
        });
        hops.routing.hop = there;
        hops.routing.neighbours = true;
        hops.refresh();
        assert_eq!(hops.hop(node), there);
        hops.gateway(Ipv4Addr::LOCALHOST);
        assert_eq!(hops.routing.asked, 3, "the route was still known");
        hops.routing.hop = None;
        hops.routing.changed = true;
        hops.refresh();
        assert_eq!(hops.hop(node), None, "it went with its route");
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
    fn a_route_that_went_before_it_was_known_is_looked_for_elsewhere() {
        let pod = Ipv4Addr::new(192, 168, 2, 6);
        let node = Ipv4Addr::new(10, 12, 22, 3);
        let mut hops = NextHops::new(Table::default(), 7);
        hops.routing.moved = Some(node);
        assert_eq!((hops.gateway(pod), hops.elsewhere(pod)), (None, Some(node)));
        hops.routing.moved = None;
        assert_eq!(hops.elsewhere(pod), None, "it is asked for every time");
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
