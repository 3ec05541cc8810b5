//! Broken networks, on which the harness itself is tested.
//!
//! A [`Sabotage`] breaks a cluster that runs. For each one the [checks](checks::ALL) that the
//! scenarios are made of must notice it, and a trace must name the hop and the cause. What comes
//! out is a [`Row`] of the table that `make sabotage` prints and keeps.

pub mod checks;
mod devices;
mod document;
mod encapsulation;
pub mod freeze;
mod packets;
mod place;
mod routing;
mod row;
mod world;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;
use podlab::trace::Cause;

pub use document::document;
pub use place::Place;
pub use row::{Row, Summary, examine, table};
pub use world::{Held, World};

/// A way to break a running cluster.
#[derive(Clone, Copy)]
pub struct Sabotage {
    /// Its name, in a few words joined by hyphens.
    pub name: &'static str,
    /// What is broken, in a sentence without a full stop.
    pub breaks: &'static str,
    /// Breaks it. What is returned keeps it broken.
    pub apply: Apply,
    /// How to trace it.
    pub probe: Probe,
    /// Where it must be found, and as what.
    pub expected: Expected,
}

/// Breaks a cluster.
pub type Apply = for<'a> fn(&'a World) -> Breaking<'a>;
/// See [`Apply`].
pub type Breaking<'a> = Pin<Box<dyn Future<Output = Result<Held>> + Send + 'a>>;

/// The probe that has to meet a sabotage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A small one, between the two pods.
    Small,
    /// One as long as the sender's MTU.
    Full,
    /// As many as it takes, up to this number.
    Many(usize),
    /// To an address of the sender's own block that nobody has.
    Unassigned,
}

/// What the trace must say.
#[derive(Clone, Copy)]
pub struct Expected {
    /// The stretch: the last place where the packet is as it should be, and the first where it is
    /// not.
    pub hop: (Option<Place>, Place),
    /// Whether a cause is the right one.
    pub is: fn(&Cause) -> bool,
    /// The right one, in words.
    pub cause: &'static str,
    /// The checks that must notice it; others may.
    pub noticed_by: &'static [&'static str],
}

/// All of them, in the order of the table.
pub fn all() -> Vec<Sabotage> {
    [
        routing::all(),
        encapsulation::all(),
        packets::all(),
        devices::all(),
    ]
    .concat()
}

/// The one of this name.
pub fn named(name: &str) -> Option<Sabotage> {
    all().into_iter().find(|sabotage| sabotage.name == name)
}
