//! Asks machines for their state.

use super::{MachineState, Parameters};
use crate::error::Error;
use crate::machine::Machine;

/// Of every device.
const OF_DEVICES: [&str; 4] = ["forwarding", "rp_filter", "proxy_arp", "arp_ignore"];

/// Links, neighbours, routes and the parameters that decide over a packet's life.
pub(in crate::trace) async fn state(machine: &Machine) -> Result<MachineState, Error> {
    let links = machine.links().await?;
    let devices = links.iter().map(|link| link.name.as_str());
    let scopes: Vec<&str> = devices.chain(["all"]).collect();
    let mut names = vec!["ip_forward".to_owned()];
    for scope in scopes {
        names.extend(OF_DEVICES.iter().map(|name| format!("conf/{scope}/{name}")));
    }
    let parameters: Parameters = machine.parameters(names)?;
    let live = machine.live()?;
    let netlink = live.netlink();
    Ok(MachineState {
        rules: netlink.rules().await?,
        routes: netlink.all_routes().await?,
        neighbours: machine.neighbours().await?,
        parameters,
        links,
    })
}
