//! A vandal: breaks random kernel objects of a node, and can mend every one of them.

mod act;
mod scene;

use std::fmt;
use std::sync::Arc;

use act::Act;
use scene::Scene;

use super::error::Site;
use super::guard::Fault;
use super::random::Random;
use super::registry::{Inverse, Placement};
use crate::cluster::Node;
use crate::error::Error;
use crate::event::Kind;

/// What a vandal has done to a node.
#[derive(Debug, Clone)]
pub struct Vandalism {
    /// The fault, which mends all of it.
    pub fault: Fault,
    /// Every thing that was done, in its order: `deleted route 192.168.2.0/24`.
    pub acts: Vec<String>,
}

/// One line for each act.
impl fmt::Display for Vandalism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.acts.join("\n"))
    }
}

impl Node {
    /// Breaks `count` kernel objects of the node, chosen by `seed`: deletes or bends routes,
    /// deletes addresses, takes devices down, deletes the tunnel's device, narrows devices, gives
    /// neighbours wrong hardware addresses, turns sysctls, empties nftables tables and removes
    /// tc programs. Each one is told in the event log.
    ///
    /// The choice is made among what there is: the same seed does the same to a node in the same
    /// state. An agent that runs repairs what is its own at once; healing mends the rest. What only
    /// an agent can make (the tunnel's device, its tc programs) is left alone while none runs.
    ///
    /// # Errors
    /// When the kernel refuses an act; what was done before is mended.
    pub async fn vandalize(&self, seed: u64, count: u32) -> Result<Vandalism, Error> {
        let site = Site::new(
            format!("vandalism of {count} acts by seed {seed}"),
            self.name(),
        );
        if count == 0 {
            return Err(site.impossible("no act is asked for"));
        }
        let placement = Placement {
            claim: Some(format!("vandal on {}", self.name())),
            machine: Some(self.name().to_owned()),
            site,
        };
        let mut told = Vec::new();
        let apply = async {
            let acts = rampage(self, seed, count, &mut told).await?;
            let (node, acts) = (self.downgrade(), Arc::new(acts));
            Ok(Inverse::new(move || {
                let (node, acts) = (node.clone(), Arc::clone(&acts));
                async move {
                    match node.upgrade().filter(|node| node.live().is_ok()) {
                        Some(node) => mend(&node, &acts).await,
                        None => Ok(()),
                    }
                }
            })
            .after_others())
        };
        let faults = self.live()?.faults();
        let fault = faults.put(placement, self.events(), apply).await?;
        Ok(Vandalism { fault, acts: told })
    }
}

async fn rampage(
    node: &Node,
    seed: u64,
    count: u32,
    told: &mut Vec<String>,
) -> Result<Vec<Act>, Error> {
    let mut random = Random::new(seed);
    let mut acts: Vec<Act> = Vec::new();
    while acts.len() < count as usize {
        let scene = Scene::look(node).await?;
        let Some(act) = scene.choose(&mut random) else {
            break;
        };
        match act.commit(node).await {
            Ok(()) => {
                let text = act.to_string();
                node.record(Kind::Note {
                    text: format!("vandal: {text}"),
                });
                told.push(text);
                acts.push(act);
            }
            // The agent was faster: it has mended what this would have broken further.
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                mend(node, &acts).await?;
                return Err(error);
            }
        }
    }
    Ok(acts)
}

/// The last act first, as each was done to what the others had left. For agents is waited at the
/// end: what they make may need what is mended here.
async fn mend(node: &Node, acts: &[Act]) -> Result<(), Error> {
    for act in acts.iter().rev() {
        match act.mend(node).await {
            // A device that an agent has made anew is another one, and in order.
            Err(error) if is_gone(&error) => {}
            other => other?,
        }
    }
    for act in acts {
        act.is_mended(node).await?;
    }
    Ok(())
}

fn is_gone(error: &Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};
    match error {
        Error::Netlink(error) => matches!(
            error.source.raw_os_error(),
            Some(ENODEV | ENOENT | ESRCH | EADDRNOTAVAIL)
        ),
        _ => false,
    }
}
