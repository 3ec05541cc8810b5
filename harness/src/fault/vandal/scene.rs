//! What a vandal finds to break.

use std::collections::BTreeMap;

use super::act::Act;
use crate::cluster::Node;
use crate::error::Error;
use crate::fault::Random;
use crate::netlink::{DeviceState, address_text, confuse, destination, device_of};
use crate::process::Program;

/// Sysctls of a device that a packet's way depends on.
const SWITCHES: [&str; 5] = [
    "forwarding",
    "proxy_arp",
    "rp_filter",
    "arp_ignore",
    "accept_local",
];

/// All that can be done to a node as it is now, by kinds.
pub(super) struct Scene(Vec<Vec<Act>>);

impl Scene {
    pub(super) async fn look(node: &Node) -> Result<Self, Error> {
        let netlink = node.live()?.netlink();
        let mut links = node.links().await?;
        links.retain(|link| link.name != "lo");
        links.sort_by(|one, other| one.name.cmp(&other.name));
        let names: BTreeMap<u32, String> = links
            .iter()
            .map(|link| (link.index, link.name.clone()))
            .collect();
        let mut states: BTreeMap<&str, DeviceState> = BTreeMap::new();
        for link in &links {
            states.insert(&link.name, netlink.device_state(&link.name).await?);
        }
        // Only those whose device is up: others could not be put back.
        let up = |index: u32| links.iter().any(|link| link.index == index && link.up);
        let mut routes = netlink.route_messages().await?;
        routes.retain(|route| device_of(route).is_some_and(up));
        routes.sort_by_key(destination);

        let mut addresses = Vec::new();
        for address in netlink.address_messages().await? {
            if let Some(device) = names.get(&address.header.index) {
                let state = states.get(device.as_str()).cloned().unwrap_or_default();
                addresses.push(Act::DeleteAddress {
                    device: device.clone(),
                    address,
                    state,
                });
            }
        }
        addresses.sort_by_key(|act| match act {
            Act::DeleteAddress { address, .. } => address_text(address),
            _ => String::new(),
        });
        let down = links.iter().filter(|link| link.up).map(|link| {
            let device = link.name.clone();
            let state = states.get(device.as_str()).cloned().unwrap_or_default();
            Act::TakeDown { device, state }
        });
        let narrow = links.iter().filter(|link| link.mtu > 576);
        let narrow = narrow.map(|link| Act::Narrow {
            device: link.name.clone(),
            mtu: link.mtu,
        });
        let neighbours = states.values().flat_map(|state| &state.neighbours);
        let mut neighbours: Vec<Act> = neighbours
            .filter_map(|right| {
                let (address, wrong) = confuse(right)?;
                let right = right.clone();
                Some(Act::ConfuseNeighbour {
                    address,
                    right,
                    wrong,
                })
            })
            .collect();
        neighbours.sort_by_key(ToString::to_string);

        let mut kinds = vec![
            routes.iter().cloned().map(Act::DeleteRoute).collect(),
            routes.into_iter().map(Act::BendRoute).collect(),
            addresses,
            down.collect(),
            narrow.collect(),
            neighbours,
            sysctls(node, names.values())?,
            tables(node).await?,
        ];
        if node.is_agent_running() {
            let made = |name: &str| name.starts_with("tunl0");
            let devices = links.iter().filter(|link| made(&link.name));
            // The kernel's own fallback device cannot be deleted.
            let devices = devices.filter(|link| link.kind.as_deref() != Some("ipip"));
            kinds.push(
                devices
                    .map(|link| Act::DeleteDevice {
                        device: link.name.clone(),
                    })
                    .collect(),
            );
            let mut programs = Vec::new();
            for link in &links {
                if netlink.has_clsact(&link.name).await? {
                    let device = link.name.clone();
                    programs.push(Act::DeletePrograms { device });
                }
            }
            kinds.push(programs);
        }
        kinds.retain(|kind: &Vec<Act>| !kind.is_empty());
        Ok(Self(kinds))
    }

    /// First the kind, so that many routes do not make all acts deletions of routes.
    pub(super) fn choose(&self, random: &mut Random) -> Option<Act> {
        let kind = random.pick(&self.0)?;
        random.pick(kind).cloned()
    }
}

fn sysctls<'a>(node: &Node, devices: impl Iterator<Item = &'a String>) -> Result<Vec<Act>, Error> {
    let mut names = vec!["ip_forward".to_owned()];
    for device in devices {
        // A dot in a name is a slash to some; here paths are used, where it is none.
        names.extend(SWITCHES.map(|switch| format!("conf/{device}/{switch}")));
    }
    let values = node.parameters(names)?.into_iter();
    Ok(values
        .map(|(name, value)| Act::TurnSysctl { name, value })
        .collect())
}

async fn tables(node: &Node) -> Result<Vec<Act>, Error> {
    let nft = async |arguments: &[&str]| -> Result<String, Error> {
        let output = node.exec(Program::new("nft").args(arguments)).await?;
        Ok(output.success()?.stdout)
    };
    let mut acts = Vec::new();
    for line in nft(&["list", "tables"]).await?.lines() {
        let mut words = line.split_whitespace().skip(1);
        if let (Some(family), Some(table)) = (words.next(), words.next()) {
            // Faults have tables, too, which are not the vandal's to break.
            if table.starts_with("podlab-fault") {
                continue;
            }
            // Gone since: the agent replaces it as a whole.
            let list = ["-s", "list", "table", family, table];
            let output = node.exec(Program::new("nft").args(list)).await?;
            if output.status.success() {
                acts.push(Act::DeleteTable {
                    family: family.to_owned(),
                    table: table.to_owned(),
                    script: output.stdout,
                });
            }
        }
    }
    Ok(acts)
}
