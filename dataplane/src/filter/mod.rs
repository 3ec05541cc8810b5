//! Protection: which packets the node takes, and under which source they leave it.
//!
//! One nftables table of our own ([`TABLE`]), computed from the desired state as a whole
//! ([`Ruleset`]) and put in place of the last one by a single transaction, so that no packet
//! meets half of it. Other tables are never touched. The kernel keeps it when the agent ends.
//!
//! Whether somebody changed it is told by the generation of the kernel's rulesets, a number that
//! grows with every transaction: asking for it costs microseconds, and as long as it is the one
//! after our own transaction there is nothing to look for.
//!
//! Without nftables (no program `nft`, or a kernel without nf_tables) the agent makes the pods
//! reachable all the same and becomes ready, since routes do not depend on it, but says for as
//! long as it lasts that the node is not protected. What nftables refuses is an error like any
//! other: the agent is not ready and tries again.

mod compare;
pub(crate) mod nft;
mod ruleset;
#[cfg(test)]
mod tests;

use std::io;

pub(crate) use compare::compare;
pub(crate) use ruleset::{Ruleset, TABLE};

use crate::netlink::events::Event;
use crate::platform::{KernelError, Nftables};

/// How often the table is written again because another transaction came in between.
const ATTEMPTS: usize = 4;

/// What this life of the agent knows of the table in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    written: Option<Written>,
}

#[derive(Debug)]
struct Written {
    ruleset: Ruleset,
    /// The kernel's, when the table was last known to be as written.
    generation: u32,
    /// The table as `nft` prints it. Taken only once somebody else changes rulesets, since
    /// without that the generation tells enough.
    listing: Option<String>,
}

/// The table is not in place.
#[derive(Debug)]
pub(crate) enum FilterError {
    /// There is no nftables here, for this reason.
    Missing(String),
    /// It was refused.
    Refused(KernelError),
}

impl From<KernelError> for FilterError {
    fn from(error: KernelError) -> Self {
        if error.source.kind() == io::ErrorKind::NotFound {
            let hint = "hint: install the package nftables";
            return Self::Missing(format!("the program nft was not found; {hint}"));
        }
        Self::Refused(error)
    }
}

impl Filter {
    /// Whether an event tells that somebody else changed the table.
    pub(crate) fn concerns(&self, event: &Event) -> bool {
        let Event::Ruleset { table, generation } = event else {
            return false;
        };
        let known = self.written.as_ref().map(|written| written.generation);
        table == TABLE && known != Some(*generation)
    }

    /// Brings the table to `wanted`. Returns whether it was written.
    ///
    /// # Errors
    /// [`FilterError::Missing`] where there is no nftables; otherwise what it objects to.
    pub(crate) fn apply(
        &mut self,
        nftables: &mut dyn Nftables,
        wanted: &Ruleset,
    ) -> Result<bool, FilterError> {
        let now = generation(nftables)?;
        let mut shared = false;
        if let Some(written) = self.written.as_mut().filter(|w| w.ruleset == *wanted) {
            if written.generation == now {
                return Ok(false);
            }
            shared = true;
            if written.listing.is_some() && written.listing == nftables.list(TABLE)? {
                // The generation is the one from before the look: a later change is seen by the
                // next.
                written.generation = now;
                return Ok(false);
            }
        }
        self.written = None;
        self.written = Some(write(nftables, wanted, shared)?);
        Ok(true)
    }
}

/// Writes until no other transaction fell between ours and the last look: one that did may have
/// changed our table.
fn write(
    nftables: &mut dyn Nftables,
    ruleset: &Ruleset,
    shared: bool,
) -> Result<Written, FilterError> {
    for _ in 0..ATTEMPTS {
        let before = generation(nftables)?;
        nftables.load(ruleset.script())?;
        let listing = if shared { nftables.list(TABLE)? } else { None };
        let generation = generation(nftables)?;
        if generation == before.wrapping_add(1) {
            return Ok(Written {
                ruleset: ruleset.clone(),
                generation,
                listing,
            });
        }
    }
    Err(FilterError::Refused(KernelError {
        operation: "replace nft table",
        object: TABLE.to_owned(),
        message: "somebody else keeps changing the rulesets".to_owned(),
        source: io::ErrorKind::ResourceBusy.into(),
    }))
}

fn generation(nftables: &mut dyn Nftables) -> Result<u32, FilterError> {
    nftables.generation().map_err(|error| {
        if error.is_privilege() {
            FilterError::Refused(error)
        } else {
            FilterError::Missing(format!("this kernel has no nf_tables ({})", error.source))
        }
    })
}
