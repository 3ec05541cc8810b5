//! Which faults were in force, from what the event log tells.

use std::sync::Arc;

use crate::event::{Event, Kind};

/// Those that were applied and not healed, in the order in which they were applied.
pub(super) fn in_force(events: &[Arc<Event>]) -> Vec<String> {
    let mut faults: Vec<(&str, &str)> = Vec::new();
    for event in events {
        match &event.kind {
            Kind::FaultApplied { fault, target } => faults.push((fault, target)),
            Kind::FaultHealed { fault, target } => {
                // The same one may have been applied twice.
                let healed = (fault.as_str(), target.as_str());
                if let Some(place) = faults.iter().rposition(|known| *known == healed) {
                    faults.remove(place);
                }
            }
            _ => {}
        }
    }
    let text = |(fault, target)| format!("{fault} at {target}");
    faults.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventLog;

    #[test]
    fn what_was_healed_is_not_in_force_and_what_was_applied_twice_is_healed_twice() {
        let log = EventLog::new();
        let (fault, target) = ("link down".to_owned(), "n1/eth0".to_owned());
        let apply = |target: &str| {
            let (fault, target) = (fault.clone(), target.to_owned());
            log.record(Kind::FaultApplied { fault, target });
        };
        apply("n1/eth0");
        apply("n2/eth0");
        apply("n1/eth0");
        log.record(Kind::FaultHealed {
            fault: fault.clone(),
            target,
        });
        let faults = in_force(&log.all());
        assert_eq!(faults, ["link down at n1/eth0", "link down at n2/eth0"]);
    }
}
