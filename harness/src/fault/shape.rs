//! Wires that are slow, or that treat packets badly.

use std::fmt;
use std::time::Duration;

use super::guard::Fault;
use super::registry::Inverse;
use super::wire::{Direction, End, Wire};
use crate::error::Error;
use crate::netlink::Qdisc;

/// Bits in a second, headers of Ethernet included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// So many bits in a second.
    pub const fn bits(bits: u64) -> Self {
        Self(bits)
    }

    /// So many thousand bits in a second.
    pub const fn kilobits(kilobits: u64) -> Self {
        Self(kilobits.saturating_mul(1_000))
    }

    /// So many million bits in a second.
    pub const fn megabits(megabits: u64) -> Self {
        Self(megabits.saturating_mul(1_000_000))
    }

    /// In bits per second.
    pub const fn per_second(self) -> u64 {
        self.0
    }
}

/// `10000 kbit/s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % 1_000 == 0 => write!(f, "{} kbit/s", bits / 1_000),
            bits => write!(f, "{bits} bit/s"),
        }
    }
}

/// What `netem` does to packets. Shares of 1 and places by count are exact; what lies between, and
/// jitter, the kernel draws anew in every run.
///
/// A super-packet (GSO) counts as one packet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Impairment {
    delay: Duration,
    jitter: Duration,
    reorder_every: u32,
    duplicate: f64,
    corrupt: f64,
}

impl Impairment {
    /// Packets that wait at most, as with `tc`.
    const QUEUE: u32 = 1000;

    /// Every packet comes later by `delay`.
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// This share of the packets comes twice; 1 is all.
    pub fn duplicate(share: f64) -> Self {
        Self {
            duplicate: share,
            ..Self::default()
        }
    }

    /// In this share of the packets one bit is wrong, anywhere; 1 is all.
    pub fn corrupt(share: f64) -> Self {
        Self {
            corrupt: share,
            ..Self::default()
        }
    }

    /// The delay is drawn for each packet, up to so much shorter or longer. Packets may overtake
    /// each other.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Every `n`-th packet is not delayed: it overtakes those before it.
    #[must_use]
    pub fn reorder_every(mut self, n: u32) -> Self {
        self.reorder_every = n;
        self
    }

    /// Also duplicates this share.
    #[must_use]
    pub fn and_duplicate(mut self, share: f64) -> Self {
        self.duplicate = share;
        self
    }

    /// Also corrupts this share.
    #[must_use]
    pub fn and_corrupt(mut self, share: f64) -> Self {
        self.corrupt = share;
        self
    }

    /// Why it would change nothing, or cannot be.
    fn nothing(&self) -> Option<&'static str> {
        let share = |share: f64| (0.0..=1.0).contains(&share);
        if !share(self.duplicate) || !share(self.corrupt) {
            return Some("a share lies between 0 and 1");
        }
        if self.delay.is_zero() && (self.reorder_every > 0 || !self.jitter.is_zero()) {
            return Some("without a delay there is nothing to overtake or to vary");
        }
        let lost = |share: f64| share > 0.0 && part(share) == 0;
        if lost(self.duplicate) || lost(self.corrupt) {
            return Some("the kernel knows no share between 0 and one packet in 4294967295");
        }
        if self.reorder_every == 1 {
            return Some("where every packet overtakes none is late");
        }
        let timed = !self.delay.is_zero();
        (!timed && self.duplicate == 0.0 && self.corrupt == 0.0).then_some("nothing is asked of it")
    }

    fn qdisc(&self) -> Qdisc {
        Qdisc::Netem {
            delay: self.delay,
            jitter: self.jitter,
            reorder_every: self.reorder_every,
            duplicate: part(self.duplicate),
            corrupt: part(self.corrupt),
            queue: Self::QUEUE,
        }
    }
}

/// A share as netem has it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share between 0 and 1"
)]
fn part(share: f64) -> u32 {
    (share * f64::from(u32::MAX)) as u32
}

/// `delay 10ms ± 2ms, every 5th packet overtakes`.
impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.delay.is_zero() {
            parts.push(match self.jitter.is_zero() {
                true => format!("delay {:?}", self.delay),
                false => format!("delay {:?} ± {:?}", self.delay, self.jitter),
            });
        }
        if self.reorder_every > 0 {
            parts.push(format!("1 in {} packets overtakes", self.reorder_every));
        }
        for (what, share) in [
            ("duplication", self.duplicate),
            ("corruption", self.corrupt),
        ] {
            if share > 0.0 {
                parts.push(format!("{what} of {} %", share * 100.0));
            }
        }
        f.write_str(&parts.join(", "))
    }
}

impl Wire {
    /// Lets no more than `rate` pass. What waits for more than about 50 ms is dropped.
    ///
    /// # Errors
    /// When the rate is below 8 kbit/s, the sending device has a queueing discipline already, or
    /// the kernel lacks `tbf`.
    pub async fn limit_rate(&self, direction: Direction, rate: Rate) -> Result<Fault, Error> {
        const QUEUE: Duration = Duration::from_millis(50);
        const LARGEST_FRAME: u32 = 9_018;
        let name = format!("rate limit of {rate}");
        let bytes = rate.0 / 8;
        let part = |part: u64| u32::try_from(bytes / part).unwrap_or(u32::MAX);
        let burst = part(250).max(LARGEST_FRAME);
        let waiting = part(1000 / u64::try_from(QUEUE.as_millis()).unwrap_or(1));
        let qdisc = Qdisc::Tbf {
            rate: bytes,
            burst,
            queue: burst.saturating_add(waiting.max(LARGEST_FRAME)),
        };
        let nothing = (bytes < 1_000).then_some("rates begin at 8 kbit/s");
        self.shape(direction, name, nothing, qdisc, "tbf").await
    }

    /// Delays, reorders, duplicates or corrupts packets.
    ///
    /// # Errors
    /// When nothing is asked of it, the sending device has a queueing discipline already, or the
    /// kernel lacks `netem`.
    pub async fn impair(
        &self,
        direction: Direction,
        impairment: Impairment,
    ) -> Result<Fault, Error> {
        let (name, nothing) = (impairment.to_string(), impairment.nothing());
        self.shape(direction, name, nothing, impairment.qdisc(), "netem")
            .await
    }

    async fn shape(
        &self,
        direction: Direction,
        name: String,
        nothing: Option<&str>,
        qdisc: Qdisc,
        needs: &'static str,
    ) -> Result<Fault, Error> {
        let mut site = self.site(name);
        site.target = format!("{} {direction}", site.target);
        if let Some(why) = nothing {
            return Err(site.impossible(why));
        }
        // Packets are queued where they are sent.
        let End { machine, device } = match direction {
            Direction::In => self.far.clone(),
            Direction::Out => self.near.clone(),
        };
        let claim = format!("qdisc of {}/{device}", machine.name());
        let placement = self.placement(&site, Some(claim));
        let faults = self.near.machine.live()?.faults();
        let apply = async {
            let netlink = machine.live()?.netlink();
            if let Some(kind) = netlink.root_qdisc(&device).await? {
                let place = format!("{}/{device}", machine.name());
                return Err(site.impossible(format!("{place} has a qdisc {kind} of its own")));
            }
            netlink
                .add_qdisc(&device, &qdisc)
                .await
                .map_err(|error| site.refused(needs, error.to_string()))?;
            let (machine, device) = (machine.clone(), device.clone());
            Ok(Inverse::new(move || {
                let end = End {
                    machine: machine.clone(),
                    device: device.clone(),
                };
                async move {
                    match end.is_running().await? {
                        Some(_) => Ok(end.machine.netlink().remove_qdisc(&end.device).await?),
                        None => Ok(()),
                    }
                }
            }))
        };
        faults
            .put(placement, self.near.machine.events(), apply)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impairment_that_does_nothing_says_so() {
        let ms = Duration::from_millis;
        for nothing in [
            Impairment::default(),
            Impairment::duplicate(0.0),
            Impairment::corrupt(1.5),
            Impairment::default().jitter(ms(1)),
            Impairment::duplicate(1.0).reorder_every(3),
            Impairment::delay(ms(1)).reorder_every(1),
            Impairment::corrupt(1e-12),
            Impairment::delay(ms(1)).and_duplicate(1e-12),
        ] {
            assert!(nothing.nothing().is_some(), "{nothing:?}");
        }
        let all = Impairment::delay(ms(10)).jitter(ms(2)).reorder_every(5);
        let all = all.and_duplicate(1.0).and_corrupt(0.5);
        assert_eq!(all.nothing(), None);
        assert_eq!(
            all.to_string(),
            "delay 10ms ± 2ms, 1 in 5 packets overtakes, duplication of 100 %, corruption of 50 %"
        );
    }

    #[test]
    fn rates_are_told_in_thousands_where_they_can() {
        assert_eq!(Rate::megabits(10).to_string(), "10000 kbit/s");
        assert_eq!(Rate::bits(8_001).to_string(), "8001 bit/s");
    }
}
