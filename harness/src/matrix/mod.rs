//! Who reaches whom: all ordered pairs of any pods, nodes and addresses, all at once.
//!
//! A matrix starts a server for each protocol at every target, asks every question at the same
//! time from sockets inside the sources' network namespaces, and compares what came back with what
//! was expected: whether, how it failed, under which source address the server saw it, with which
//! TTL, how long it took, how many of several were lost.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! use podlab::event::Protocol::{Http, Icmp, Tcp, Udp};
//! use podlab::matrix::{Expectation, Probe};
//!
//! let matrix = cluster
//!     .matrix()
//!     .all_pods()
//!     .protocols([Icmp, Tcp, Udp, Http])
//!     .sizes([56, 1400, 4000])
//!     .expect_each(|question| {
//!         let same = question.from.node()?.name() == question.to.node()?.name();
//!         let pod = question.from.pod()?;
//!         Some(Expectation::reachable().source(pod).ttl(if same { 63 } else { 62 }))
//!     })
//!     .expect_between("web", "db", Expectation::unreachable())
//!     .prove()
//!     .await?; // an error shows the grid, and what was wrong in it
//! println!("{matrix}");
//! # Ok(())
//! # }
//! ```
//!
//! Rounds are repeated until as many in a row as wanted were right, or the time is up: a cluster
//! that converges is waited for, and one that flaps is not right. What shall *not* be reachable has
//! to be so in several rounds, and only counts while the same server answers its own machine.

mod ask;
mod builder;
mod expectation;
mod grid;
mod peer;
mod question;
mod result;
mod rounds;
mod servers;
#[cfg(test)]
mod tests;

pub use builder::MatrixBuilder;
pub use expectation::{Actual, Difference, Expectation, Failed};
pub use peer::Peer;
pub use question::{Probe, Question};
pub use result::{Check, Matrix, Proof};

use std::fmt;

/// Why a matrix could not be asked, or is not as expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// The matrix as it was built cannot be asked. Nothing was.
    #[error("the matrix cannot be asked:{}", Faults(.faults))]
    Faulty {
        /// All that is wrong with it.
        faults: Vec<String>,
    },
    /// Something is not as expected.
    #[error("{0}")]
    Wrong(Box<Matrix>),
}

struct Faults<'a>(&'a [String]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| write!(f, "\n- {fault}"))
    }
}
