//! What the network loses, and when, while the test does something to it.
//!
//! A timeline probes pairs of peers at a steady rate from a thread of its own. When it is stopped
//! it says for each pair how many probes were lost, in which windows of time, and what happened to
//! the cluster just before.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! let (web, db) = (cluster.pod("web")?, cluster.pod("db")?);
//! let timeline = cluster.timeline().pair(&web, &db).pair(&db, &web).rate(1000).start().await?;
//! let node = web.node();
//! node.kill_agent().await?; // is a mark in the timeline by itself
//! node.start_agent().await?;
//! timeline.mark("now the link");
//! node.set_link_up(&node.underlay(), false).await?;
//! node.set_link_up(&node.underlay(), true).await?;
//! let outages = timeline.stop().await?;
//! println!("{outages}");
//! let lost = outages.pair("web", "db")?.lost;
//! assert!(lost < 100, "{outages}");
//! # Ok(())
//! # }
//! ```
//!
//! The clock is that of the packets: a probe's time is that at which it was really sent, an answer's
//! that at which the kernel received it. When the test's own process gets no processor time a probe
//! is *skipped*, and a skipped probe is not a lost one; the longest gap between two probes says what
//! may have gone unseen. A probe is *lost* when it was sent, or the kernel refused to send it for
//! want of a way, and nothing came back until the timeline was stopped and the grace was over.

mod builder;
mod engine;
mod line;
mod record;
mod report;
mod running;
mod show;
mod tcp;
#[cfg(test)]
mod tests;

pub use builder::TimelineBuilder;
pub use report::{Mark, Outage, Outages, PairOutages};
pub use running::Timeline;

use std::io;

/// Why a timeline could not be made, or does not show what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimelineError {
    /// The timeline as it was built cannot be started.
    #[error("the timeline cannot be started: {fault}")]
    Faulty {
        /// What is wrong with it.
        fault: String,
    },
    /// A socket of the timeline failed.
    #[error("timeline of {pair}: {operation}: {source}")]
    Socket {
        /// Between whom.
        pair: String,
        /// What was tried.
        operation: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// Before it began some pairs had to have an answer, and had none.
    #[error(
        "no answer before the timeline began: {}\n\
         hint: `cold()` begins without one", .pairs.join("; ")
    )]
    NoAnswer {
        /// The pairs, and what they were told instead.
        pairs: Vec<String>,
    },
    /// The thread of the timeline ended by itself.
    #[error("the thread of the timeline is gone")]
    Gone,
    /// There is no such pair.
    #[error("the timeline has no pair {from} → {to}\nhint: it has {known}")]
    NoSuchPair {
        /// Who was said to ask.
        from: String,
        /// Who was said to be asked.
        to: String,
        /// The pairs that it has.
        known: String,
    },
    /// More was lost than may be.
    #[error("{what}\n{outages}")]
    Lost {
        /// What was asserted, and is not so.
        what: String,
        /// What was found instead.
        outages: Box<Outages>,
    },
}
