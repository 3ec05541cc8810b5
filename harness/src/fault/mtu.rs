//! Wires that carry smaller packets than before.

use super::guard::Fault;
use super::registry::Inverse;
use super::wire::{End, Wire};
use crate::error::Error;

impl Wire {
    /// Sets the MTU of both ends, in bytes. What is sent at either end is cut to it or refused by
    /// the sender's own kernel ("message too long", ICMP "fragmentation needed").
    ///
    /// For a path that swallows what is too long without a word see
    /// [`Flow::longer_than`](super::Flow::longer_than).
    ///
    /// # Errors
    /// When both ends have this MTU already, or the kernel refuses it (below 68).
    pub async fn set_mtu(&self, mtu: u32) -> Result<Fault, Error> {
        let site = self.site(format!("MTU {mtu}"));
        let claim = format!("mtu of {self}");
        let placement = self.placement(&site, Some(claim));
        let faults = self.near.machine.live()?.faults();
        let apply = async {
            let before = self.mtus().await?;
            if before.len() == 2 && before.iter().all(|(_, was)| *was == mtu) {
                return Err(site.no_effect("both ends have it already"));
            }
            for (end, _) in &before {
                if let Err(error) = end.set_mtu(mtu).await {
                    put_back(&before).await?;
                    return Err(error);
                }
            }
            Ok(Inverse::new(move || {
                let before = before.clone();
                async move { put_back(&before).await }
            }))
        };
        faults
            .put(placement, self.near.machine.events(), apply)
            .await
    }

    /// Both ends with their MTUs.
    async fn mtus(&self) -> Result<Vec<(End, u32)>, Error> {
        let mut mtus = Vec::new();
        for end in [&self.near, &self.far] {
            let links = end.machine.live()?.links().await?;
            let Some(link) = links.iter().find(|link| link.name == end.device) else {
                continue;
            };
            mtus.push((end.clone(), link.mtu));
        }
        Ok(mtus)
    }
}

impl End {
    async fn set_mtu(&self, mtu: u32) -> Result<(), Error> {
        let netlink = self.machine.live()?.netlink();
        Ok(netlink.set_link_mtu(&self.device, mtu).await?)
    }
}

/// What is gone by now needs nothing.
async fn put_back(before: &[(End, u32)]) -> Result<(), Error> {
    for (end, mtu) in before {
        let Ok(machine) = end.machine.live() else {
            continue;
        };
        let links = machine.links().await?;
        let mut links = links.iter();
        if links.any(|link| link.name == end.device && link.mtu != *mtu) {
            end.set_mtu(*mtu).await?;
        }
    }
    Ok(())
}
