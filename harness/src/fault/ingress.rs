//! Rules where packets come in by a device: an nftables table of the family `netdev` per fault.

use super::error::Site;
use super::fabric::{dropped, run};
use super::registry::{Faults, Inverse};
use super::wire::End;
use crate::error::Error;

const CHAIN: &str = "incoming";

/// Drops, and counts, what comes in by the device when the expression is true.
pub(super) async fn put(
    faults: &Faults,
    end: &End,
    site: &Site,
    when: &str,
) -> Result<Inverse, Error> {
    let table = format!("podlab-fault-{}", faults.next_number());
    let End { machine, device } = end.clone();
    let script = format!(
        "add table netdev {table}\n\
         add chain netdev {table} {CHAIN} {{ type filter hook ingress device {device:?} priority 0; }}\n\
         add rule netdev {table} {CHAIN} {when} counter drop"
    );
    run(machine.live()?, &script)
        .await?
        .map_err(|why| site.refused("nftables with the family netdev", why))?;
    let (place, back, name) = (machine.clone(), site.clone(), table.clone());
    let heal = move || {
        let (machine, site, table) = (place.clone(), back.clone(), name.clone());
        async move {
            // The machine is gone, and the table with it.
            let Ok(machine) = machine.live() else {
                return Ok(());
            };
            run(machine, &format!("delete table netdev {table}"))
                .await?
                .map_err(|why| site.refused("nftables with the family netdev", why))
        }
    };
    let site = site.clone();
    let dropped = move || {
        let (machine, site, table) = (machine.clone(), site.clone(), table.clone());
        async move { dropped(&machine, &site, "netdev", &table, CHAIN).await }
    };
    Ok(Inverse::new(heal).counting(dropped))
}
