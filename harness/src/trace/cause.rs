//! Why a probe was lost, or went another way than it should.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::evidence::{Moved, NftVerdict};
use super::hop::Leg;
use super::point::{Point, Stretch};
use crate::netlink::{MacAddress, NeighbourState, Refusal, RouteAnswer, RouteKind, Rule};

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// On the way there, or back.
    pub leg: Leg,
    /// The probe, or its answer, did not arrive.
    pub lost: bool,
    /// Between which devices.
    pub stretch: Stretch,
    /// The machine at fault.
    pub machine: String,
    /// What is wrong there.
    pub cause: Cause,
    /// What else was seen that belongs to it: counters that moved, errors that came back.
    pub notes: Vec<String>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// No route leads there.
    NoRoute {
        /// Where to.
        destination: Ipv4Addr,
        /// What the look-up says.
        refusal: Refusal,
    },
    /// The route to a block is not there, and a wider one takes its packets.
    RouteMissing {
        /// The block.
        block: Ipv4Net,
        /// What is taken instead.
        instead: RouteAnswer,
    },
    /// A route is there, and says that packets are to be dropped.
    RouteRefuses {
        /// The route's destination.
        destination: Ipv4Net,
        /// In which way.
        kind: RouteKind,
    },
    /// A rule of the policy database refuses the packet, whatever the routes say.
    RuleRefuses {
        /// The rule.
        rule: Box<Rule>,
    },
    /// The next hop is another than it should be.
    WrongNextHop {
        /// What it should be.
        expected: Ipv4Addr,
        /// What it is.
        found: Ipv4Addr,
    },
    /// The route leads out of another device than it should.
    WrongDevice {
        /// What it should be.
        expected: String,
        /// The way that is taken.
        found: RouteAnswer,
    },
    /// Packets to addresses of an own block that nobody has are sent on instead of dropped.
    BlackholeMissing {
        /// The block.
        block: Ipv4Net,
        /// Where they are sent.
        instead: RouteAnswer,
    },
    /// The machine does not forward.
    ForwardingOff {
        /// The parameter below `net/ipv4`.
        parameter: String,
    },
    /// The way back to the source leads through another device, and such packets are dropped.
    ReversePath {
        /// The device it came in by.
        device: String,
    },
    /// It was sent into the tunnel, and left plain or not at all: nothing encapsulates.
    NotEncapsulated,
    /// It should have been encapsulated, but the route leads around the tunnel.
    AroundTunnel {
        /// The route that is taken.
        route: RouteAnswer,
    },
    /// It came in encapsulated, and nothing takes the outer header off.
    NotDecapsulated,
    /// It has so many outer headers instead of one, or of none.
    Encapsulated {
        /// How many.
        times: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The source address of the outer header is another than the node's.
    WrongOuterSource {
        /// The node's.
        expected: Ipv4Addr,
        /// What it was.
        found: Ipv4Addr,
    },
    /// The ttl is another than forwarding makes it.
    WrongTtl {
        /// What it should be.
        expected: u8,
        /// What it was.
        found: u8,
    },
    /// A checksum is wrong.
    WrongChecksum {
        /// Of this header.
        header: &'static str,
    },
    /// Nobody answers for the next hop's hardware address.
    NeighbourUnanswered {
        /// The next hop.
        address: Ipv4Addr,
        /// The device on which it was asked for.
        device: String,
        /// The device that should have answered for it by proxy ARP, where that is off.
        proxy_arp_off: Option<Point>,
    },
    /// The next hop's hardware address is that of somebody else.
    WrongNeighbour {
        /// The next hop.
        address: Option<Ipv4Addr>,
        /// What the frame bore.
        found: MacAddress,
        /// Whose it should have been.
        expected: Point,
        /// What the machine believes the entry to be.
        state: Option<NeighbourState>,
    },
    /// The next hop is the right one, and the tunnel device leads to another node for it: a wrong
    /// entry in its own table, as a VXLAN device has one of hardware addresses (`bridge fdb`).
    WrongTunnelPeer {
        /// The tunnel device.
        device: String,
        /// Where it should lead to.
        expected: Ipv4Addr,
        /// Where it leads to.
        found: Ipv4Addr,
    },
    /// A device promises a larger MTU than fits behind it.
    MtuTooLarge {
        /// The device.
        device: String,
        /// What it promises.
        mtu: u32,
        /// What fits.
        fits: u32,
    },
    /// The packet is longer than a device takes.
    TooBig {
        /// The device.
        device: Point,
        /// Its MTU.
        mtu: u32,
        /// The packet's length.
        length: usize,
    },
    /// A device is down, or has no carrier.
    LinkDown {
        /// The device.
        device: Point,
    },
    /// A device is not there.
    NoDevice {
        /// The device.
        device: Point,
    },
    /// The ttl ran out.
    TtlExpired,
    /// A packet filter dropped it.
    Filtered(NftVerdict),
    /// It was seen more than once.
    Duplicated {
        /// How often.
        times: usize,
    },
    /// It also came to a machine that is not on its way.
    Detour {
        /// Where.
        point: Point,
    },
    /// The sender's kernel refused to send it.
    NotSent {
        /// The `errno`.
        errno: i32,
    },
    /// The kernel dropped it, for a reason that it gave.
    Dropped {
        /// The kernel's name of the reason, such as `IP_RPFILTER`.
        reason: String,
    },
    /// The kernel counted a loss when it was lost there, and nothing else explains it.
    Counted {
        /// The machine's counters that moved, at least one.
        moved: Vec<Moved>,
    },
    /// Nothing that was looked at explains it.
    Unknown,
}

/// One line: `lost between A and B: no route to …`.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            leg,
            lost,
            stretch,
            machine,
            cause,
            ..
        } = self;
        let verb = if *lost { "lost" } else { "went wrong" };
        let way = match leg {
            Leg::There => "",
            Leg::Back => " on the way back",
        };
        write!(f, "{verb}{way} {stretch}: {machine}: {cause}")
    }
}

impl Diagnosis {
    /// The one line, and below it what else was seen.
    pub fn explanation(&self) -> String {
        let notes = self.notes.iter().map(|note| format!("\n  {note}"));
        format!("{self}{}", notes.collect::<String>())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute {
                destination,
                refusal,
            } => write!(f, "no route to {destination} (look-up: {refusal})"),
            Self::RouteMissing { block, instead } => {
                write!(f, "no route to {block}; its packets take {instead}")
            }
            Self::RouteRefuses { destination, kind } => {
                let kind = format!("{kind:?}").to_lowercase();
                write!(f, "the route to {destination} is of kind {kind}")
            }
            Self::RuleRefuses { rule } => write!(f, "refused by the routing rule `{rule}`"),
            Self::WrongNextHop { expected, found } => {
                write!(f, "the next hop is {found} instead of {expected}")
            }
            Self::WrongDevice { expected, found } => {
                write!(f, "the route is {found} instead of one through {expected}")
            }
            Self::BlackholeMissing { block, instead } => write!(
                f,
                "no blackhole for {block}: packets to addresses that nobody has take {instead}"
            ),
            Self::ForwardingOff { parameter } => {
                write!(f, "it does not forward (net/ipv4/{parameter} is 0)")
            }
            Self::ReversePath { device } => write!(
                f,
                "refused by the reverse-path check (rp_filter) on {device}"
            ),
            Self::NotEncapsulated => {
                f.write_str("it went into the tunnel and nothing encapsulated it")
            }
            Self::AroundTunnel { route } => {
                write!(f, "sent without encapsulation: the route is {route}")
            }
            Self::NotDecapsulated => f.write_str("it came in encapsulated and was not taken out"),
            Self::Encapsulated { times, expected } => {
                write!(f, "{times} outer headers instead of {expected}")
            }
            Self::WrongOuterSource { expected, found } => {
                write!(f, "the outer source is {found} instead of {expected}")
            }
            Self::WrongTtl { expected, found } => {
                write!(f, "the ttl is {found} instead of {expected}")
            }
            Self::WrongChecksum { header } => write!(f, "the {header} checksum is wrong"),
            Self::NeighbourUnanswered {
                address,
                device,
                proxy_arp_off,
            } => {
                write!(f, "nobody answers for {address} on {device}")?;
                match proxy_arp_off {
                    Some(point) => write!(f, " (proxy_arp of {point} is 0)"),
                    None => Ok(()),
                }
            }
            Self::WrongNeighbour {
                address,
                found,
                expected,
                state,
            } => {
                f.write_str("the neighbour entry ")?;
                if let Some(address) = address {
                    write!(f, "of {address} ")?;
                }
                write!(f, "is {found}, which is not {expected}")?;
                match state {
                    Some(state) => write!(f, " ({state:?})"),
                    None => Ok(()),
                }
            }
            Self::WrongTunnelPeer {
                device,
                expected,
                found,
            } => write!(
                f,
                "{device} leads to {found}, and the next hop is {expected}"
            ),
            Self::MtuTooLarge { device, mtu, fits } => {
                write!(
                    f,
                    "the MTU of {device} is {mtu}, and only {fits} fits behind it"
                )
            }
            Self::TooBig {
                device,
                mtu,
                length,
            } => write!(f, "{length} bytes do not fit {device}, whose MTU is {mtu}"),
            Self::LinkDown { device } => write!(f, "{device} is down"),
            Self::NoDevice { device } => write!(f, "there is no {device}"),
            Self::TtlExpired => f.write_str("the ttl ran out"),
            Self::Filtered(verdict) => write!(f, "dropped by {verdict}"),
            Self::Duplicated { times } => write!(f, "seen {times} times"),
            Self::Detour { point } => write!(f, "it also came to {point}"),
            Self::NotSent { errno } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "the sender's kernel refused it: {error}")
            }
            Self::Dropped { reason } => write!(f, "dropped by the kernel: {reason}"),
            Self::Counted { moved } => {
                let moved = moved.iter();
                let told = moved.map(|Moved { counter, by, .. }| format!("{counter} +{by}"));
                let told = told.collect::<Vec<_>>().join(", ");
                write!(f, "the kernel counted a loss: {told}")
            }
            Self::Unknown => f.write_str("nothing that was looked at explains it"),
        }
    }
}
