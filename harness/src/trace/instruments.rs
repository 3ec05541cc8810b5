//! What is switched on for a second probe, where the first was lost.

use std::time::SystemTime;

use super::evidence::Evidence;
use super::evidence::counters::{self, Counters};
use super::evidence::drop_reason::DropMonitor;
use super::evidence::nft_trace::{NftTrace, Pattern};
use crate::error::Error;
use crate::machine::Machine;

/// Counters before, and the packet filters' tracing, of some machines.
pub(super) struct Instruments {
    machines: Vec<(Machine, Counters)>,
    traces: Vec<NftTrace>,
    /// For root only.
    drops: Option<DropMonitor>,
    notes: Vec<String>,
}

impl Instruments {
    pub(super) async fn start(machines: &[Machine], pattern: &Pattern) -> Result<Self, Error> {
        let mut traces = Vec::new();
        let mut notes = Vec::new();
        for machine in machines {
            let devices = machine.links().await?.into_iter().map(|link| link.name);
            let devices: Vec<String> = devices.collect();
            match NftTrace::start(machine, &devices, pattern).await {
                Ok(trace) => traces.push(trace),
                Err(failure) => notes.push(untold(machine.name(), &failure.to_string())),
            }
        }
        let counted = machines.iter().map(|machine| {
            let counters = counters::read(machine)?;
            Ok((machine.clone(), counters))
        });
        Ok(Self {
            machines: counted.collect::<Result<_, Error>>()?,
            traces,
            drops: DropMonitor::start()
                .inspect_err(|error| tracing::debug!("no drop reasons: {error}"))
                .ok(),
            notes,
        })
    }

    /// Ends the looking; `seen` is when the probe that was lost was last seen.
    pub(super) async fn finish(
        self,
        seen: Option<SystemTime>,
        evidence: &mut Evidence,
    ) -> Result<(), Error> {
        if let (Some(monitor), Some(seen)) = (self.drops, seen) {
            evidence.drops = monitor.finish(seen);
        }
        for (machine, before) in &self.machines {
            let after = counters::read(machine)?;
            let moved = counters::moved(machine.name(), before, &after);
            evidence.counters.extend(moved);
        }
        evidence.notes.extend(self.notes);
        for trace in self.traces {
            match trace.finish().await {
                Ok(verdicts) => evidence.verdicts.extend(verdicts),
                Err(failure) => evidence.notes.push(untold("nft", &failure.to_string())),
            }
        }
        Ok(())
    }
}

fn untold(whom: &str, why: &str) -> String {
    let why = why.lines().next().unwrap_or_default();
    format!("{whom}: no verdicts of packet filters: {why}")
}
