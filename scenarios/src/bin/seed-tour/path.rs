//! Follows one ping over every device between two pods.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podlab::capture::{Capture, Captured, Filter};
use podlab::packet::IcmpMessage;
use podlab::probe::icmp::EchoReply;
use podlab::{Cluster, Pod};
use podlab_scenarios::seed::TUNNEL;

/// One ping, hop by hop.
pub(crate) struct Journey {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) request: Vec<Hop>,
    pub(crate) reply: Vec<Hop>,
    pub(crate) result: EchoReply,
}

/// A device that a packet passed.
pub(crate) struct Hop {
    pub(crate) machine: String,
    pub(crate) device: String,
    /// The time since the first hop.
    pub(crate) after: Duration,
    pub(crate) packet: Captured,
}

/// Pings `to` from `from` while every device of the path is captured.
///
/// # Errors
/// When the ping fails, or a device of the path did not see it.
pub(crate) async fn follow(cluster: &Cluster, from: &Pod, to: &Pod) -> Result<Journey> {
    let taps = start_taps(cluster, from, to)?;
    let result = from.ping(to).await?;
    let mut seen = Vec::new();
    for (machine, device, capture) in taps {
        let recording = capture.stop().await?;
        ensure!(
            recording.dropped == 0,
            "the capture on {machine}/{device} lost packets"
        );
        seen.push((machine, device, recording.packets));
    }
    let (a, b) = (from.address(), to.address());
    Ok(Journey {
        from: from.name().to_owned(),
        to: to.name().to_owned(),
        request: hops(&seen, a, b)?,
        reply: {
            seen.reverse();
            hops(&seen, b, a)?
        },
        result,
    })
}

type Tap = (String, String, Capture);

/// Captures on every device between the pods, in the order of the request.
fn start_taps(cluster: &Cluster, from: &Pod, to: &Pod) -> Result<Vec<Tap>> {
    let pair = Filter::between(from.address(), to.address());
    let filter = pair.clone().or(Filter::inner(pair));
    let (a, b) = (from.node(), to.node());
    let fabric = cluster.fabric();
    let places = [
        (&**from, "eth0".to_owned()),
        (&*a, from.host_interface()),
        (&*a, TUNNEL.to_owned()),
        (&*a, a.underlay().to_owned()),
        (fabric, a.fabric_port().to_owned()),
        (fabric, b.fabric_port().to_owned()),
        (&*b, b.underlay().to_owned()),
        (&*b, TUNNEL.to_owned()),
        (&*b, to.host_interface()),
        (&**to, "eth0".to_owned()),
    ];
    let taps = places.into_iter().map(|(machine, device)| {
        let capture = machine.capture(&device, &filter)?;
        Ok((machine.name().to_owned(), device, capture))
    });
    taps.collect()
}

/// The packet from `source` to `destination` at every tap.
fn hops(
    seen: &[(String, String, Vec<Captured>)],
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> Result<Vec<Hop>> {
    let mut start = None;
    let hops = seen.iter().map(|(machine, device, packets)| {
        let packet = packets.iter().find(|captured| {
            let inner = captured.packet.inner_ipv4();
            let echo = captured.packet.icmp().map(|icmp| &icmp.message);
            inner.is_some_and(|ip| (ip.source, ip.destination) == (source, destination))
                && matches!(
                    echo,
                    Some(IcmpMessage::EchoRequest { .. } | IcmpMessage::EchoReply { .. })
                )
        });
        let packet =
            packet.with_context(|| format!("{machine}/{device} did not see the packet"))?;
        let start = *start.get_or_insert(packet.time);
        Ok(Hop {
            machine: machine.clone(),
            device: device.clone(),
            after: packet.time.duration_since(start).unwrap_or_default(),
            packet: packet.clone(),
        })
    });
    hops.collect()
}
