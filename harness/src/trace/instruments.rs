//! What is switched on for a second probe, where the first was lost.

use super::evidence::Evidence;
use super::evidence::counters::{self, Counters};
use super::evidence::nft_trace::{NftTrace, Pattern};
use crate::error::Error;
use crate::machine::Machine;

/// Counters before, and the packet filters' tracing, of some machines.
pub(super) struct Instruments {
    machines: Vec<(Machine, Counters)>,
    traces: Vec<NftTrace>,
    notes: Vec<String>,
}

impl Instruments {
    pub(super) async fn start(machines: &[Machine], patterns: &[Pattern]) -> Result<Self, Error> {
        let mut traces = Vec::new();
        let mut notes = Vec::new();
        for machine in machines {
            let devices = machine.links().await?.into_iter().map(|link| link.name);
            let devices: Vec<String> = devices.collect();
            match NftTrace::start(machine, &devices, patterns).await {
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
            notes,
        })
    }

    pub(super) async fn finish(self, evidence: &mut Evidence) -> Result<(), Error> {
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
