//! A steady stream of pings, to count what a change costs.

use std::net::Ipv4Addr;
use std::time::Duration;

use podlab::{Machine, Pod};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

/// From one ping to the next: 500 each second.
const EVERY: Duration = Duration::from_millis(2);

/// Pings from one pod to another that go on until they are counted.
pub(crate) struct Stream {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Losses>,
}

/// What became of a stream.
#[derive(Debug)]
pub(crate) struct Losses {
    pub(crate) pair: String,
    pub(crate) sent: usize,
    /// What went wrong with each ping that was not answered.
    pub(crate) lost: Vec<String>,
}

impl Stream {
    /// Begins at once; a ping was answered when this returns.
    pub(crate) async fn start(from: &Pod, to: &Pod) -> anyhow::Result<Self> {
        from.ping(to).await?;
        let pair = format!("{} to {}", from.name(), to.name());
        let (machine, target) = (Machine::clone(from), to.address());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(send(machine, target, pair, stopped));
        Ok(Self { stop, task })
    }

    /// Ends it, waits for the last answers, and prints what was lost.
    pub(crate) async fn count(self) -> anyhow::Result<Losses> {
        // It only ends by this word, or by a panic that the next line hands on.
        self.stop.send(()).ok();
        let losses = self.task.await?;
        println!(
            "{}: {} of {} pings lost",
            losses.pair,
            losses.lost.len(),
            losses.sent
        );
        Ok(losses)
    }
}

impl Losses {
    /// Fails when anything was lost.
    pub(crate) fn none(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.sent > 0, "{}: nothing was sent", self.pair);
        anyhow::ensure!(self.lost.is_empty(), "{self:#?}");
        Ok(())
    }
}

async fn send(
    from: Machine,
    to: Ipv4Addr,
    pair: String,
    mut stopped: oneshot::Receiver<()>,
) -> Losses {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut pings = JoinSet::new();
    let mut sent = 0;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            _ = ticks.tick() => {
                sent += 1;
                let from = from.clone();
                // Each on its own: one that waits for its answer must not hold up the others.
                pings.spawn(async move { from.ping(to).await });
            }
        }
    }
    let results = pings.join_all().await.into_iter();
    let lost = results.filter_map(Result::err);
    Losses {
        pair,
        sent,
        lost: lost.map(|error| error.to_string()).collect(),
    }
}
