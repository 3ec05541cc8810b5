//! The kernel's routing table as the packet path sees it: answers of the kernel, remembered
//! until anything changes there.

use std::collections::HashMap;
use std::net::Ipv4Addr;

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

/// See the module.
pub(super) struct NextHops<R> {
    routing: R,
    tunnel: u32,
    /// Not that there is none: it may be for lack of memory, and hardly any packet comes into
    /// the tunnel without a route.
    known: HashMap<Ipv4Addr, Ipv4Addr>,
}

impl<R: Routing> NextHops<R> {
    /// Routes through the interface with index `tunnel`.
    pub(super) fn new(routing: R, tunnel: u32) -> Self {
        Self {
            routing,
            tunnel,
            known: HashMap::new(),
        }
    }

    /// To be called before packets are looked up: forgets everything if a route may have
    /// changed. A thousand routes may change at once; what of it is needed is asked for again.
    pub(super) fn refresh(&mut self) {
        if self.routing.changed() {
            self.known.clear();
        }
    }

    /// The node that `destination` is routed to.
    pub(super) fn gateway(&mut self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        if let Some(gateway) = self.known.get(&destination) {
            return Some(*gateway);
        }
        let gateway = self.routing.gateway(destination, self.tunnel)?;
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
    fn a_scan_does_not_fill_the_memory() {
        let mut hops = NextHops::new(Table::default(), 7);
        hops.routing.gateway = Some(Ipv4Addr::LOCALHOST);
        for i in 0..3 * MOST as u32 {
            hops.gateway(Ipv4Addr::from_bits(i));
        }
        assert!(hops.known.len() <= MOST);
    }
}
