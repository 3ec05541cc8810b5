//! Puts a question to the network again, in the way in which it went wrong, until it does so.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::event::{How, Protocol};
use crate::machine::Machine;
use crate::trace::{Endpoint, Trace, TraceRequest};

/// A question that went wrong once is asked so often before it counts as answered: a loss of one in
/// ten is then seen in 998 of 1,000 cases.
const OFTEN: usize = 64;
/// No question is asked more often, however seldom it went wrong.
const MOST: usize = 512;
/// Times the number of questions of which one went wrong.
const SURELY: usize = 7;

/// How long all of it may take. A probe that is answered takes a few milliseconds.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// IPv4 header and that of ICMP or UDP, in bytes.
const HEADERS: usize = 28;
/// IPv4 and TCP header without options, in bytes.
const TCP_HEADERS: usize = 40;
/// What goes over a connection in a packet that is not large.
const SMALL: usize = 512;
/// Where nobody listens. The answer to that is an answer.
const CLOSED: u16 = 9;

/// What is asked again.
pub(super) struct Question<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) from: Endpoint,
    /// Through which it sends.
    pub(super) device: Option<(Machine, String)>,
    pub(super) to: Endpoint,
    pub(super) how: How,
}

impl Question<'_> {
    /// Traces it, as large and as often as it takes; returns with the trace how often it was asked.
    ///
    /// What goes over a connection is asked for twice: its beginning, a SYN, and where it had more to
    /// carry, a packet as large as the sender makes them.
    pub(super) async fn ask(self) -> Result<(Trace, usize), Error> {
        let How {
            protocol,
            port,
            size,
            one_of,
            ..
        } = self.how;
        let times = usize::try_from(one_of).unwrap_or(MOST);
        let times = times.saturating_mul(SURELY).clamp(OFTEN, MOST);
        let request = || {
            let (from, to) = (self.from.clone(), self.to.clone());
            self.cluster.trace(from, to).probes(times)
        };
        let port = port.unwrap_or(CLOSED);
        let trace = match protocol {
            Protocol::Icmp | Protocol::Trace => sized(request(), &self.how).await?,
            Protocol::Udp => sized(request().udp(port), &self.how).await?,
            Protocol::Tcp | Protocol::Http => {
                let begun = request().tcp(port).await?;
                let size = size.unwrap_or(0) as usize;
                match &self.device {
                    Some((machine, device)) if begun.is_delivered() && size > SMALL => {
                        let largest = mtu(machine, device).await?.min(size + TCP_HEADERS);
                        request().size(largest).await?
                    }
                    _ => begun,
                }
            }
        };
        Ok((trace, times))
    }
}

/// A datagram as it was sent.
fn sized<'a>(request: TraceRequest<'a>, how: &How) -> TraceRequest<'a> {
    let request = match how.size {
        Some(size) => request.size(size as usize + HEADERS),
        None => request,
    };
    request.dont_fragment(how.dont_fragment)
}

async fn mtu(machine: &Machine, device: &str) -> Result<usize, Error> {
    const ETHERNET: usize = 1500;
    let links = machine.links().await?;
    let own = links.iter().find(|link| link.name == device);
    Ok(own.map_or(ETHERNET, |link| link.mtu as usize))
}
