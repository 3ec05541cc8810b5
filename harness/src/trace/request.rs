//! What to trace, and how.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use super::Trace;
use super::endpoint::Endpoint;
use super::probe::ProbeKind;
use super::session::{Session, Settings};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::patience::scaled;

/// Length of the default probe, that of the program `ping`: IPv4 header, ICMP header, 56 bytes.
const DEFAULT_SIZE: usize = 84;
/// IPv4 and ICMP header and the mark.
const SMALLEST: usize = 20 + 8 + super::mark::LENGTH;
/// The largest IPv4 packet.
const LARGEST: usize = 65_535;

/// A trace that has not begun: await it. Made by [`Cluster::trace`].
#[derive(Debug)]
#[must_use = "a trace does nothing until it is awaited"]
pub struct TraceRequest<'a> {
    cluster: &'a Cluster,
    from: Endpoint,
    to: Endpoint,
    kind: ProbeKind,
    size: Option<usize>,
    dont_fragment: Option<bool>,
    probes: usize,
    timeout: Duration,
}

impl Cluster {
    /// Sends one marked probe and follows it over every device there and back.
    ///
    /// The ends are handles on pods or nodes, or addresses. Await the request; before that, its
    /// methods choose another probe. A probe that is lost is no error: [`Trace::verdict`] says so,
    /// and [`Trace::diagnosis`] why.
    ///
    /// ```no_run
    /// # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
    /// let (tools, web) = (cluster.pod("test-tools")?, cluster.pod("web")?);
    /// let trace = cluster.trace(&tools, &web).await?;
    /// println!("{trace}");
    /// assert!(trace.is_delivered(), "{trace}");
    /// // Only full-size packets may have a problem.
    /// cluster.trace(&tools, &web).size(1480).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn trace(&self, from: impl Into<Endpoint>, to: impl Into<Endpoint>) -> TraceRequest<'_> {
        TraceRequest {
            cluster: self,
            from: from.into(),
            to: to.into(),
            kind: ProbeKind::Icmp,
            size: None,
            dont_fragment: None,
            probes: 1,
            timeout: Duration::from_secs(1),
        }
    }
}

impl<'a> TraceRequest<'a> {
    /// Sends a TCP SYN to this port instead of an ICMP echo request.
    pub fn tcp(mut self, port: u16) -> Self {
        self.kind = ProbeKind::Tcp { port };
        self
    }

    /// Sends a UDP datagram to this port instead of an ICMP echo request.
    pub fn udp(mut self, port: u16) -> Self {
        self.kind = ProbeKind::Udp { port };
        self
    }

    /// Makes the probe an IPv4 packet of this many bytes with the don't-fragment bit set, so that
    /// what only full-size packets meet is seen. At least 44; TCP probes stay as they are.
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = Some(bytes.clamp(SMALLEST, LARGEST));
        self
    }

    /// Sets the don't-fragment bit or leaves it clear. Without, it is set where a
    /// [`size`](Self::size) was chosen. Of a probe that is fragmented the first fragment is followed.
    pub fn dont_fragment(mut self, set: bool) -> Self {
        self.dont_fragment = Some(set);
        self
    }

    /// Sends up to this many probes, one after the other, until one is lost or goes wrong: for
    /// losses that do not hit every packet. The trace is that of the last one.
    pub fn probes(mut self, count: usize) -> Self {
        self.probes = count.max(1);
        self
    }

    /// How long to wait for an answer, one second by default (scaled by the patience factor).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<Trace, Error> {
        let settings = Settings {
            kind: self.kind,
            size: self.size.unwrap_or(DEFAULT_SIZE),
            dont_fragment: self.dont_fragment.unwrap_or(self.size.is_some()),
            probes: self.probes,
            within: scaled(self.timeout)?,
        };
        let session = Session::open(self.cluster, self.from, self.to, settings).await?;
        session.run().await
    }
}

impl<'a> IntoFuture for TraceRequest<'a> {
    type Output = Result<Trace, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
