//! Traffic control and counters of devices: what is read for a reader, never written.

use std::collections::BTreeMap;

use rtnetlink::packet_route::link::{LinkAttribute, Stats64};
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption, TcStats2};
use serde::Serialize;

use super::{Netlink, NetlinkError};

/// A queueing discipline of a device, `clsact` included, which queues nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QdiscState {
    /// The device.
    pub interface: String,
    /// The kernel's name of the kind: `noqueue`, `clsact`, `tbf`, `netem`.
    pub kind: String,
    /// Bytes that passed it.
    pub bytes: u64,
    /// Packets that passed it.
    pub packets: u64,
    /// Packets that it dropped.
    pub drops: u64,
}

/// A tc filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// The device.
    pub interface: String,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// The kernel's name of the kind: `bpf`, `u32`, `flower`.
    pub kind: String,
    /// Its place among the filters of the device; the lowest is asked first.
    pub priority: u16,
    /// The name of a BPF program.
    pub program: Option<String>,
    /// The kernel's number of a BPF program.
    pub program_id: Option<u32>,
}

/// What a device has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Received with an error.
    pub rx_errors: u64,
    /// Received and dropped for want of resources.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Sent with an error.
    pub tx_errors: u64,
    /// Dropped instead of sent.
    pub tx_dropped: u64,
    /// Lost because there was no carrier.
    pub tx_carrier_errors: u64,
}

impl Netlink {
    /// The queueing disciplines of all devices.
    pub(crate) async fn qdiscs(&self) -> Result<Vec<QdiscState>, NetlinkError> {
        let names = self.link_names().await?;
        let messages = self.qdisc_dump().await?;
        let qdiscs = messages.into_iter().filter_map(|message| {
            let index = u32::try_from(message.header.index).ok()?;
            let mut qdisc = QdiscState {
                interface: names.get(&index)?.clone(),
                kind: String::new(),
                bytes: 0,
                packets: 0,
                drops: 0,
            };
            for attribute in message.attributes {
                match attribute {
                    TcAttribute::Kind(kind) => qdisc.kind = kind,
                    TcAttribute::Stats2(statistics) => qdisc.count(&statistics),
                    _ => {}
                }
            }
            Some(qdisc)
        });
        Ok(qdiscs.collect())
    }

    /// The filters at ingress and egress of all devices.
    pub(crate) async fn filters(&self) -> Result<Vec<Filter>, NetlinkError> {
        let mut filters = Vec::new();
        for (index, name) in self.link_names().await? {
            for direction in ["ingress", "egress"] {
                let ask = move |handle: rtnetlink::Handle| {
                    let filters = handle.traffic_filter(index.cast_signed()).get();
                    match direction {
                        "ingress" => filters.ingress(),
                        _ => filters.egress(),
                    }
                    .execute()
                };
                let messages: Vec<TcMessage> = match self.table("filters", ask).await {
                    Ok(messages) => messages,
                    Err(error) if has_none(&error) => continue,
                    Err(error) => return Err(error),
                };
                let messages = messages.into_iter();
                filters.extend(messages.filter_map(|m| Filter::from_message(m, &name, direction)));
            }
        }
        Ok(filters)
    }

    /// The counters of all devices by their indices.
    pub(crate) async fn statistics(&self) -> Result<BTreeMap<u32, Statistics>, NetlinkError> {
        let messages = self.link_dump("counters").await?.into_iter();
        let counters = messages.filter_map(|message| {
            let attributes = message.attributes.iter();
            let mut found = attributes.filter_map(|attribute| match attribute {
                LinkAttribute::Stats64(stats) => Some(Statistics::from_kernel(stats)),
                _ => None,
            });
            Some((message.header.index, found.next()?))
        });
        Ok(counters.collect())
    }
}

/// A device that has gone has no filters, and one without clsact has none: older kernels say so by
/// an error.
fn has_none(error: &NetlinkError) -> bool {
    use nix::libc::{EINVAL, ENODEV, ENOENT, EOPNOTSUPP};
    let errno = error.source.raw_os_error();
    errno.is_some_and(|errno| [EINVAL, ENODEV, ENOENT, EOPNOTSUPP].contains(&errno))
}

impl QdiscState {
    fn count(&mut self, statistics: &[TcStats2]) {
        for statistic in statistics {
            match statistic {
                TcStats2::Basic(basic) => {
                    self.bytes = basic.bytes;
                    self.packets = basic.packets.into();
                }
                TcStats2::Queue(queue) => self.drops = queue.drops.into(),
                _ => {}
            }
        }
    }
}

impl Filter {
    fn from_message(message: TcMessage, interface: &str, direction: &'static str) -> Option<Self> {
        let mut filter = Self {
            interface: interface.to_owned(),
            direction,
            kind: String::new(),
            // The upper half of `tcm_info`; the lower one is the protocol.
            priority: (message.header.info >> 16) as u16,
            program: None,
            program_id: None,
        };
        for attribute in message.attributes {
            match attribute {
                TcAttribute::Kind(kind) => filter.kind = kind,
                TcAttribute::Options(options) => {
                    for option in options {
                        match option {
                            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => {
                                filter.program = Some(name);
                            }
                            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => {
                                filter.program_id = Some(id);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        // The kernel lists what filters of one kind and priority have in common before them: that
        // has no handle. One of classic BPF has no number of a program either.
        (message.header.handle != 0.into()).then_some(filter)
    }
}

impl Statistics {
    fn from_kernel(stats: &Stats64) -> Self {
        Self {
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            rx_errors: stats.rx_errors,
            rx_dropped: stats.rx_dropped,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_errors: stats.tx_errors,
            tx_dropped: stats.tx_dropped,
            tx_carrier_errors: stats.tx_carrier_errors,
        }
    }
}
