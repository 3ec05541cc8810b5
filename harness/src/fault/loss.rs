//! Which packets are lost: by count, so that every run loses the same.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Which IPv4 packets are lost, by their place in the order in which they pass, from 1. What is
/// no IPv4 (ARP) is neither lost nor counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pattern: Pattern,
    flow: Flow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    All,
    Every(u32),
    /// Places within one round, from 1; the round begins anew after that many packets.
    Of {
        places: BTreeSet<u32>,
        round: u32,
    },
}

impl Loss {
    /// After so many packets a pattern from a seed begins anew.
    const ROUND: u32 = 1000;

    /// All of them.
    pub fn all() -> Self {
        Self::of(Pattern::All)
    }

    /// Every `n`-th: with 3 the 3rd, the 6th and so on.
    pub fn every(n: u32) -> Self {
        Self::of(Pattern::Every(n))
    }

    /// The `k`-th only, from 1; the first 2^32 - 1 packets are counted.
    pub fn nth(k: u32) -> Self {
        Self::these([k])
    }

    /// Those at these places only, from 1.
    pub fn these(places: impl IntoIterator<Item = u32>) -> Self {
        Self::of(Pattern::Of {
            places: places.into_iter().collect(),
            round: u32::MAX,
        })
    }

    /// `share` of them (0.05 is a twentieth), scattered by `seed`: of every 1,000 packets exactly
    /// that part, the same ones in every run.
    pub fn seeded(seed: u64, share: f64) -> Self {
        let count = (share.clamp(0.0, 1.0) * f64::from(Self::ROUND)).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 1,000"
        )]
        let places = super::random::Random::new(seed).choose(Self::ROUND, count as u32);
        Self::of(Pattern::Of {
            places: places.into_iter().map(|place| place + 1).collect(),
            round: Self::ROUND,
        })
    }

    /// Of this flow only; packets of others are not counted.
    #[must_use]
    pub fn only(mut self, flow: Flow) -> Self {
        self.flow = flow;
        self
    }

    fn of(pattern: Pattern) -> Self {
        let flow = Flow::default();
        Self { pattern, flow }
    }

    /// Why it would never lose a packet.
    pub(super) fn nothing(&self) -> Option<&'static str> {
        match &self.pattern {
            Pattern::Every(0) => Some("there is no 0th packet"),
            Pattern::Of { places, .. } if places.is_empty() => Some("no packet is to be lost"),
            Pattern::Of { places, .. } if places.contains(&0) => Some("packets count from 1"),
            _ => None,
        }
    }

    /// The expression of an nftables rule that is true for the packets that are lost.
    pub(super) fn expression(&self) -> String {
        let flow = self.flow.expression();
        // The kernel's counter gives the first packet 0.
        match &self.pattern {
            Pattern::All => flow,
            Pattern::Every(n) => format!("{flow} numgen inc mod {n} {}", n.saturating_sub(1)),
            Pattern::Of { places, round } => {
                let places: Vec<String> = places
                    .iter()
                    .map(|place| place.saturating_sub(1).to_string())
                    .collect();
                format!("{flow} numgen inc mod {round} {{ {} }}", places.join(", "))
            }
        }
    }
}

/// As a fault is called: `loss of every 3rd packet`.
impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = self.flow.to_string();
        match &self.pattern {
            Pattern::All => write!(f, "loss of every packet{of}"),
            Pattern::Every(n) => write!(f, "loss of 1 in {n} packets{of}"),
            Pattern::Of { places, round } if *round == u32::MAX => {
                let places: Vec<String> = places.iter().map(|place| format!("#{place}")).collect();
                write!(f, "loss of packet {}{of}", places.join(", "))
            }
            Pattern::Of { places, round } => {
                write!(
                    f,
                    "loss of {} in {round} packets by a seed{of}",
                    places.len()
                )
            }
        }
    }
}

/// Which packets belong to a flow: all, narrowed by what is said of their IPv4 header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    protocol: Option<u8>,
    source: Option<Ipv4Addr>,
    destination: Option<Ipv4Addr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    tunnelled: bool,
    longer_than: Option<u16>,
}

impl Flow {
    /// Every IPv4 packet.
    pub fn any() -> Self {
        Self::default()
    }

    /// ICMP.
    pub fn icmp() -> Self {
        Self::any().protocol(1)
    }

    /// TCP.
    pub fn tcp() -> Self {
        Self::any().protocol(6)
    }

    /// UDP.
    pub fn udp() -> Self {
        Self::any().protocol(17)
    }

    /// Of this IP protocol; 4 is IPIP.
    #[must_use]
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// From this address.
    #[must_use]
    pub fn from(mut self, source: impl Into<Ipv4Addr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// To this address.
    #[must_use]
    pub fn to(mut self, destination: impl Into<Ipv4Addr>) -> Self {
        self.destination = Some(destination.into());
        self
    }

    /// From this port; of TCP and UDP only. Of a packet in fragments that is the first one.
    #[must_use]
    pub fn from_port(mut self, source: u16) -> Self {
        self.source_port = Some(source);
        self
    }

    /// To this port; see [`from_port`](Self::from_port).
    #[must_use]
    pub fn to_port(mut self, destination: u16) -> Self {
        self.destination_port = Some(destination);
        self
    }

    /// Inside of IPIP: everything else that is said is said of the inner header. Outer headers
    /// with options are not looked behind, nor inner ones where ports are asked for.
    #[must_use]
    pub fn tunnelled(mut self) -> Self {
        self.tunnelled = true;
        self
    }

    /// Longer than so many bytes, IPv4 header included: lost, they make a path that swallows what
    /// does not fit, without a word. A super-packet (GSO) is as long as all its segments together.
    #[must_use]
    pub fn longer_than(mut self, bytes: u16) -> Self {
        self.longer_than = Some(bytes);
        self
    }

    fn expression(&self) -> String {
        let mut words = vec!["ether type ip".to_owned()];
        if self.tunnelled {
            // Version 4, five words of header, protocol IPIP: the inner header is at 20 bytes.
            words.push("@nh,0,8 0x45 ip protocol 4".to_owned());
        }
        let (protocol, source, destination) = match self.tunnelled {
            false => ("ip protocol", "ip saddr", "ip daddr"),
            true => ("@nh,232,8", "@nh,256,32", "@nh,288,32"),
        };
        let number = |address: Ipv4Addr| match self.tunnelled {
            false => address.to_string(),
            true => format!("{:#x}", u32::from(address)),
        };
        words.extend(self.protocol.map(|number| format!("{protocol} {number}")));
        words.extend(self.source.map(|a| format!("{source} {}", number(a))));
        words.extend(
            self.destination
                .map(|a| format!("{destination} {}", number(a))),
        );
        let ports = [
            (self.source_port, "th sport", "@nh,320,16"),
            (self.destination_port, "th dport", "@nh,336,16"),
        ];
        if ports.iter().any(|(port, ..)| port.is_some()) {
            if self.protocol.is_none() {
                words.push(format!("{protocol} {{ 6, 17 }}"));
            }
            if self.tunnelled {
                // An inner header without options, and no later fragment.
                words.push("@nh,160,8 0x45 @nh,208,16 & 0x1fff == 0".to_owned());
            }
        }
        for (port, plain, tunnelled) in ports {
            let place = if self.tunnelled { tunnelled } else { plain };
            words.extend(port.map(|port| format!("{place} {port}")));
        }
        let length = match self.tunnelled {
            false => "ip length",
            true => "@nh,176,16",
        };
        words.extend(self.longer_than.map(|bytes| format!("{length} > {bytes}")));
        words.join(" ")
    }
}

/// What follows "packets": ` of tunnelled protocol 1 to 192.168.2.6`; nothing for all.
impl std::fmt::Display for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::default() {
            return Ok(());
        }
        f.write_str(" of")?;
        if self.tunnelled {
            f.write_str(" tunnelled")?;
        }
        match self.protocol {
            Some(protocol) => write!(f, " protocol {protocol}")?,
            None => f.write_str(" packets")?,
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        if let Some(port) = self.source_port {
            write!(f, " from port {port}")?;
        }
        if let Some(port) = self.destination_port {
            write!(f, " to port {port}")?;
        }
        if let Some(bytes) = self.longer_than {
            write!(f, " longer than {bytes} bytes")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_the_kernel_from_zero() {
        let rule = |loss: Loss| loss.expression();
        assert_eq!(rule(Loss::all()), "ether type ip");
        assert_eq!(rule(Loss::every(3)), "ether type ip numgen inc mod 3 2");
        assert_eq!(
            rule(Loss::these([5, 1]).only(Flow::icmp().to([10, 0, 0, 1]))),
            "ether type ip ip protocol 1 ip daddr 10.0.0.1 numgen inc mod 4294967295 { 0, 4 }"
        );
        let inner = Flow::icmp().from([192, 168, 2, 6]).tunnelled();
        assert_eq!(
            rule(Loss::all().only(inner)),
            "ether type ip @nh,0,8 0x45 ip protocol 4 @nh,232,8 1 @nh,256,32 0xc0a80206"
        );
    }

    #[test]
    fn ports_are_those_of_the_inner_packet_where_it_is_tunnelled() {
        let of = |flow: Flow| Loss::nth(3).only(flow);
        let plain = of(Flow::tcp().from_port(40_001).to_port(80));
        let start = "ether type ip ip protocol 6 th sport 40001 th dport 80 ";
        assert!(plain.expression().starts_with(start), "{plain:?}");
        let text = "loss of packet #3 of protocol 6 from port 40001 to port 80";
        assert_eq!(plain.to_string(), text);
        let inner = of(Flow::any().to_port(80).tunnelled()).expression();
        let start = "ether type ip @nh,0,8 0x45 ip protocol 4 @nh,232,8 { 6, 17 } \
                     @nh,160,8 0x45 @nh,208,16 & 0x1fff == 0 @nh,336,16 80 ";
        assert!(inner.starts_with(start), "{inner}");
    }

    #[test]
    fn a_seed_always_loses_the_same_packets_and_exactly_the_share() {
        let loss = Loss::seeded(7, 0.05);
        assert_eq!(loss, Loss::seeded(7, 0.05));
        assert_ne!(loss, Loss::seeded(8, 0.05));
        assert_eq!(loss.to_string(), "loss of 50 in 1000 packets by a seed");
        let Pattern::Of { places, .. } = loss.pattern else {
            panic!("{loss:?}")
        };
        assert_eq!(places.len(), 50);
        assert!(places.iter().all(|place| (1..=1000).contains(place)));
    }

    #[test]
    fn what_loses_nothing_says_so() {
        for loss in [
            Loss::every(0),
            Loss::these([]),
            Loss::nth(0),
            Loss::seeded(1, 0.0),
        ] {
            assert!(loss.nothing().is_some(), "{loss}");
        }
        assert_eq!(Loss::every(1).nothing(), None);
        assert_eq!(Loss::seeded(1, 1.0).nothing(), None);
    }
}
