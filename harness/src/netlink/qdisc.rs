//! Queueing disciplines: what a device does with packets before it sends them.

use std::time::Duration;

use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Netlink, NetlinkError};

/// `TCA_OPTIONS` in linux/rtnetlink.h.
pub(super) const OPTIONS: u16 = 2;

/// A discipline for everything that a device sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Qdisc {
    /// The token bucket: so many bytes in a second and no more.
    Tbf {
        /// Bytes in a second.
        rate: u64,
        /// Bytes that may go at once after a pause; at least one full frame.
        burst: u32,
        /// Bytes that wait; what comes when they are full is dropped.
        queue: u32,
    },
    /// The network emulator. Shares are parts of `u32::MAX`.
    Netem {
        delay: Duration,
        /// By how much the delay may be shorter or longer.
        jitter: Duration,
        /// The packet of so many that overtakes the others; 0 for none.
        reorder_every: u32,
        duplicate: u32,
        corrupt: u32,
        /// Packets that wait at most.
        queue: u32,
    },
}

impl Qdisc {
    fn kind(&self) -> &'static str {
        match self {
            Self::Tbf { .. } => "tbf",
            Self::Netem { .. } => "netem",
        }
    }

    /// The content of `TCA_OPTIONS`, linux/pkt_sched.h.
    fn options(&self) -> Vec<u8> {
        match *self {
            Self::Tbf { rate, burst, queue } => tbf(rate, burst, queue),
            Self::Netem {
                delay,
                jitter,
                reorder_every,
                duplicate,
                corrupt,
                queue,
            } => {
                const REORDER: u16 = 3;
                const CORRUPT: u16 = 4;
                const LATENCY64: u16 = 10;
                const JITTER64: u16 = 11;
                // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter. The times are
                // in ticks of the kernel here; those in nanoseconds below go before them.
                let mut bytes = words(&[0, queue, 0, reorder_every, duplicate, 0]);
                if reorder_every > 0 {
                    attribute(&mut bytes, REORDER, &words(&[u32::MAX, 0]));
                }
                if corrupt > 0 {
                    attribute(&mut bytes, CORRUPT, &words(&[corrupt, 0]));
                }
                attribute(&mut bytes, LATENCY64, &nanoseconds(delay));
                attribute(&mut bytes, JITTER64, &nanoseconds(jitter));
                bytes
            }
        }
    }
}

fn tbf(rate: u64, burst: u32, queue: u32) -> Vec<u8> {
    const PARMS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST: u16 = 6;
    /// `TC_LINKLAYER_ETHERNET`: sizes are what they are, no table is needed.
    const ETHERNET: u8 = 1;
    let slow = u32::try_from(rate).unwrap_or(u32::MAX);
    // struct tc_ratespec: cell_log, linklayer, overhead (2), cell_align (2), mpu (2), rate (4).
    let mut parameters = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    parameters.extend(slow.to_ne_bytes());
    // The peak rate, which is not used.
    parameters.extend([0; 12]);
    // limit, buffer (in time; the burst in bytes goes before it), mtu.
    parameters.extend(words(&[queue, 0, 0]));
    let mut bytes = Vec::new();
    attribute(&mut bytes, PARMS, &parameters);
    if rate >= u64::from(u32::MAX) {
        attribute(&mut bytes, RATE64, &rate.to_ne_bytes());
    }
    attribute(&mut bytes, BURST, &burst.to_ne_bytes());
    bytes
}

fn words(numbers: &[u32]) -> Vec<u8> {
    let bytes = numbers.iter().flat_map(|number| number.to_ne_bytes());
    bytes.collect()
}

fn nanoseconds(time: Duration) -> [u8; 8] {
    let time = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    time.to_ne_bytes()
}

/// Appends a netlink attribute, padded to four bytes. None here is longer than 100 bytes.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    const HEADER: usize = 4;
    let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(HEADER), 0);
}

impl Netlink {
    /// Gives a device a root discipline. One that somebody else has given it is an error.
    pub(crate) async fn add_qdisc(&self, device: &str, qdisc: &Qdisc) -> Result<(), NetlinkError> {
        let mut message = TcMessage::with_index(self.tc_index(device).await?);
        message.header.parent = TcHandle::ROOT;
        message.attributes = vec![
            TcAttribute::Kind(qdisc.kind().to_owned()),
            TcAttribute::Other(DefaultNla::new(OPTIONS, qdisc.options())),
        ];
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.request("add qdisc to", device, message, flags).await
    }

    /// Takes the root discipline from a device; it has the kernel's own afterwards. None is as
    /// good.
    pub(crate) async fn remove_qdisc(&self, device: &str) -> Result<(), NetlinkError> {
        let mut message = TcMessage::with_index(self.tc_index(device).await?);
        message.header.parent = TcHandle::ROOT;
        let message = RouteNetlinkMessage::DelQueueDiscipline(message);
        match self.request("remove qdisc from", device, message, 0).await {
            Err(error) if error.source.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// The kind of the root discipline that somebody has given a device; `None` when it has the
    /// kernel's own.
    pub(crate) async fn root_qdisc(&self, device: &str) -> Result<Option<String>, NetlinkError> {
        let mut qdiscs = self.qdiscs_of(device).await?.into_iter();
        // The kernel's own has no number.
        let root = qdiscs
            .find(|qdisc| qdisc.header.parent == TcHandle::ROOT && qdisc.header.handle.major != 0);
        Ok(root.and_then(|root| {
            let mut attributes = root.attributes.into_iter();
            attributes.find_map(|attribute| match attribute {
                TcAttribute::Kind(kind) => Some(kind),
                _ => None,
            })
        }))
    }

    /// Whether tc programs can hang on a device (`clsact`).
    pub(crate) async fn has_clsact(&self, device: &str) -> Result<bool, NetlinkError> {
        let qdiscs = self.qdiscs_of(device).await?;
        let mut parents = qdiscs.iter().map(|qdisc| qdisc.header.parent);
        Ok(parents.any(|parent| parent == TcHandle::INGRESS))
    }

    /// The queueing disciplines of all devices, as the kernel tells them.
    pub(super) async fn qdisc_dump(&self) -> Result<Vec<TcMessage>, NetlinkError> {
        let ask = |handle: rtnetlink::Handle| handle.qdisc().get().execute();
        self.table("queueing disciplines", ask).await
    }

    async fn qdiscs_of(&self, device: &str) -> Result<Vec<TcMessage>, NetlinkError> {
        let index = self.tc_index(device).await?;
        let mut qdiscs = self.qdisc_dump().await?;
        qdiscs.retain(|qdisc| qdisc.header.index == index);
        Ok(qdiscs)
    }

    /// Takes `clsact` from a device, and with it every tc program.
    pub(crate) async fn remove_clsact(&self, device: &str) -> Result<(), NetlinkError> {
        /// `TC_H_CLSACT` of linux/pkt_sched.h, with the handle that it always has.
        const HANDLE: u32 = 0xffff_0000;
        let mut message = TcMessage::with_index(self.tc_index(device).await?);
        message.header.parent = TcHandle::INGRESS;
        message.header.handle = TcHandle::from(HANDLE);
        let message = RouteNetlinkMessage::DelQueueDiscipline(message);
        self.request("remove clsact from", device, message, 0).await
    }

    async fn tc_index(&self, device: &str) -> Result<i32, NetlinkError> {
        Ok(self.link_index(device).await?.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_bucket_is_laid_out_as_the_kernel_reads_it() {
        let qdisc = Qdisc::Tbf {
            rate: 0x0102_0304,
            burst: 5,
            queue: 6,
        };
        let bytes = qdisc.options();
        assert_eq!(bytes.len(), 4 + 36 + 4 + 4);
        assert_eq!(bytes[..4], [40, 0, 1, 0]);
        assert_eq!(bytes[12..16], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[28..32], 6_u32.to_ne_bytes());
        assert_eq!(bytes[40..], [8, 0, 6, 0, 5, 0, 0, 0]);
    }

    #[test]
    fn a_fast_token_bucket_has_its_rate_in_64_bits() {
        let rate = 10_000_000_000;
        let qdisc = Qdisc::Tbf {
            rate,
            burst: 5,
            queue: 6,
        };
        let bytes = qdisc.options();
        assert_eq!(bytes[12..16], u32::MAX.to_ne_bytes());
        assert_eq!(bytes[40..44], [12, 0, 4, 0]);
        assert_eq!(bytes[44..52], rate.to_ne_bytes());
    }
}
