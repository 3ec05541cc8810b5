//! The agent itself puts packets into IPIP and takes them out, in threads of its own: for
//! kernels without an ipip device and users without the right to load BPF programs.
//!
//! ```text
//! routing table ─► tunl0 ═veth═ tunl0-x ─► tap ─► encapsulate ─► sender, joiner ─► underlay
//! underlay ─► receiver ─► decapsulate ─► injector ─► tunl0-x ═veth═ tunl0 ─► routing table
//! ```
//!
//! The next hop of every packet is the kernel's own answer ([`next_hop`]), so the routing table
//! stays the single truth. What needs CAP_NET_RAW and CAP_NET_ADMIN needs them in the user
//! namespace of the network namespace only.
//!
//! With the agent the sockets go, and with them the tunnel: packets are lost until a next life
//! has opened its own. The interfaces, addresses and routes stay.

mod control;
mod drops;
mod engine;
mod inbound;
mod joiner;
mod next_hop;
mod outbound;
mod packet;
mod socket;
mod streams;

use super::veth::{self, PEER, Pair, TUNNEL_PAIR};
use super::{EncapError, Encapsulation, TunnelSpec, named};
use crate::compare::Row;
use crate::mac::Mac;
use crate::netlink::events::Event;
use crate::platform::{Link, Platform};
use crate::report;
use control::{Joiner, Settings};
use engine::{Ends, Engine};

pub(crate) use engine::UserspaceError;

/// See the module.
#[derive(Default)]
pub(crate) struct Userspace {
    engine: Option<Engine>,
    joiner: Option<Joiner>,
    /// What the log was told last: of drops, and of the joiner.
    told: String,
    refusal: String,
}

impl Encapsulation for Userspace {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn look(&mut self, platform: &mut dyn Platform) -> Result<String, String> {
        self.prepare(platform)
    }

    fn prepare(&mut self, _platform: &mut dyn Platform) -> Result<String, String> {
        socket::probe().map_err(|error| report::line(&error))?;
        Ok("packet and raw sockets can be opened".to_owned())
    }

    fn ensure(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        let pair = veth::ensure(&TUNNEL_PAIR, spec.mtu, links, platform)?;
        let cut = platform.cut_udp(&pair.tunnel)?;
        let (joiner_changed, joiner) = self.joiner(spec, links, platform);
        let settings = Settings {
            node_address: spec.node_address,
            peers: spec.peers.clone(),
            underlay: spec.underlay.index,
            joiner,
        };
        self.joiner = joiner;
        self.carry(ends(&pair), settings)?;
        self.tell_drops();
        Ok(pair.changed || cut || joiner_changed)
    }

    fn concerns(&self, event: &Event) -> bool {
        let Event::TcFilter { interface } = event else {
            return false;
        };
        self.joiner
            .is_some_and(|joiner| joiner.concerns(*interface))
    }

    fn is_at_work(&mut self, links: &[Link], _platform: &mut dyn Platform) -> bool {
        // The sockets go with the agent, the joiner's pair stays.
        named(links, joiner::PAIR.one).is_some()
            || named(links, PEER).is_some_and(|peer| socket::is_open_on(peer.index))
    }

    fn compare(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        _platform: &mut dyn Platform,
    ) -> Result<Vec<Row>, EncapError> {
        let socket = |link: &Link| {
            let text = format!("packet socket dev {}", link.name);
            Row {
                desired: Some(text.clone()),
                actual: socket::is_open_on(link.index).then_some(text),
            }
        };
        let ends = named(links, PEER).into_iter().chain([spec.underlay]);
        let pair = veth::compare(PEER, spec.mtu, links);
        Ok([pair].into_iter().chain(ends.map(socket)).collect())
    }

    fn withdraw(
        &mut self,
        _underlay: &Link,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> Result<bool, EncapError> {
        // A former life's sockets have gone with it.
        veth::remove(&joiner::PAIR, links, platform)
    }
}

impl Userspace {
    /// Brings the joiner into place. Without one packets are carried all the same.
    fn joiner(
        &mut self,
        spec: &TunnelSpec<'_>,
        links: &[Link],
        platform: &mut dyn Platform,
    ) -> (bool, Option<Joiner>) {
        match joiner::ensure(spec, links, platform) {
            Ok(ensured) => {
                self.refusal.clear();
                ensured
            }
            Err(error) => {
                let refusal = report::line(&error);
                if refusal != self.refusal {
                    tracing::warn!("userspace: packets are sent one by one: {refusal}");
                    self.refusal = refusal;
                }
                (false, None)
            }
        }
    }

    fn carry(&mut self, ends: Ends, settings: Settings) -> Result<(), UserspaceError> {
        match &mut self.engine {
            Some(engine) if engine.serves(ends) => engine.follow(settings),
            stale => {
                // Before the new one: two would deliver everything twice.
                *stale = None;
                *stale = Some(Engine::start(ends, settings)?);
            }
        }
        Ok(())
    }

    fn tell_drops(&mut self) {
        let drops = self
            .engine
            .as_ref()
            .map(|engine| engine.drops().to_string())
            .unwrap_or_default();
        if drops != self.told {
            tracing::info!("userspace: packets not carried so far: {drops}");
            self.told = drops;
        }
    }
}

/// Removes what is this backend's alone. Returns what was done.
pub(super) fn clean(platform: &mut dyn Platform) -> Result<Vec<String>, EncapError> {
    veth::clean(&joiner::PAIR, platform)
}

fn ends(pair: &Pair) -> Ends {
    let mac = |link: &Link| link.mac.unwrap_or(Mac([0; 6]));
    Ends {
        tunnel: pair.tunnel.index,
        peer: pair.peer.index,
        macs: inbound::Ends {
            tunnel: mac(&pair.tunnel),
            peer: mac(&pair.peer),
        },
    }
}
