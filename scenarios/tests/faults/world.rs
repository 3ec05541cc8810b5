//! A cluster to break, and pings that are counted.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use futures_util::stream::{FuturesUnordered, StreamExt};
use podlab::agent::PodlabAgent;
use podlab::probe::icmp::{PingError, PingOptions};
use podlab::{Cluster, Error, Machine};
use podlab_scenarios::backend;
use podlab_scenarios::seed;
pub(crate) use podlab_scenarios::state::{same, state};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The seed's cluster with one backend in every node; a skip where the kernel lacks it.
pub(crate) async fn boot(backend: &str) -> Result<Cluster> {
    let agent = PodlabAgent::with_encapsulation(backend);
    Ok(backend::boot(seed::spec(), agent, backend).await?)
}

/// Which of `count` pings, numbered from 1, had an answer. They are sent one after the other, 5 ms
/// apart, and each answer has a second to come.
///
/// Not by the program `ping`: it waits for the last answer no longer than twice the longest time
/// that another one took, and a busy machine takes longer.
pub(crate) async fn pings(from: &Machine, to: impl ToString, count: u32) -> Result<BTreeSet<u32>> {
    pings_with(from, to, count, PingOptions::default()).await
}

/// The same in another size, or that must not be fragmented.
pub(crate) async fn pings_with(
    from: &Machine,
    to: impl ToString,
    count: u32,
    options: PingOptions,
) -> Result<BTreeSet<u32>> {
    let to: Ipv4Addr = to.to_string().parse()?;
    let options = &PingOptions {
        timeout: Duration::from_secs(1),
        ..options
    };
    let (mut waiting, mut answered) = (FuturesUnordered::new(), BTreeSet::new());
    for number in 1..=count {
        waiting.push(async move {
            match from.ping_with(to, options).await {
                Ok(_) => Ok(Some(number)),
                Err(error) if was_unanswered(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let pause = tokio::time::sleep(Duration::from_millis(5));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                // The new one is sent first: the order of the packets is that of the numbers.
                biased;
                Some(number) = waiting.next() => answered.extend(number?),
                () = &mut pause => break,
            }
        }
    }
    while let Some(number) = waiting.next().await {
        answered.extend(number?);
    }
    Ok(answered)
}

/// A ping whose packet has so many bytes, and must not be fragmented.
pub(crate) fn in_one_piece(size: usize) -> PingOptions {
    /// Headers of IPv4 and ICMP.
    const HEADERS: usize = 28;
    PingOptions {
        payload: size - HEADERS,
        dont_fragment: true,
        ..PingOptions::default()
    }
}

/// Whether it was the network that failed a ping.
fn was_unanswered(error: &Error) -> bool {
    let Error::Probe { source, .. } = error else {
        return false;
    };
    matches!(
        source.downcast_ref(),
        Some(PingError::TimedOut { .. } | PingError::Icmp { .. } | PingError::NotSent { .. })
    )
}

/// Everything from 1 to `count` but for these.
pub(crate) fn all_but(count: u32, lost: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    let lost: BTreeSet<u32> = lost.into_iter().collect();
    (1..=count)
        .filter(|number| !lost.contains(number))
        .collect()
}

/// Everything from 1 to `count`.
pub(crate) fn all(count: u32) -> BTreeSet<u32> {
    all_but(count, [])
}

/// Waits until one machine reaches another. A neighbour that was asked for while nobody could
/// answer fails only three seconds later, and takes with it whatever was sent in between, although
/// the network may be whole again by then.
pub(crate) async fn reaches(from: &Machine, to: Ipv4Addr) -> Result<()> {
    let what = format!("{} reaches {to}", from.name());
    let options = PingOptions {
        timeout: Duration::from_millis(300),
        ..PingOptions::default()
    };
    podlab::eventually::eventually(what, SOON, || async {
        let reply = from.ping_with(to, &options).await;
        reply.map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

/// The same, but what the agents put right by themselves may take its time.
pub(crate) async fn same_soon(cluster: &Cluster, before: &[String]) -> Result<()> {
    // A look at all machines takes its time, too.
    podlab_scenarios::state::same_soon(cluster, before, 2 * SOON).await
}
