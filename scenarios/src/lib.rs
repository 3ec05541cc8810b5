//! The end-to-end scenarios, and the clusters that they boot.
//!
//! The scenarios themselves are the tests of this crate (feature `netns`); the
//! program `seed-tour` boots the seed's cluster and shows what it is, and `podlab-bench` measures.

pub mod backend;
pub mod chaos;
pub mod flow;
pub mod impostor;
pub mod program;
pub mod sabotage;
pub mod seed;
pub mod state;
pub mod tshark;
pub mod unnumbered;
