//! Devices that go down, and come back as they were.

use std::time::Duration;

use super::error::Site;
use super::guard::Fault;
use super::registry::{Inverse, Placement};
use super::wire::End;
use crate::error::Error;
use crate::eventually::eventually;
use crate::fault::FaultError;
use crate::machine::Machine;
use crate::netlink::DeviceState;

/// How long the kernel may take to tell both ends of a wire of its carrier: it spares itself the
/// work for up to a second when links change often.
const CARRIER: Duration = Duration::from_secs(5);

impl Machine {
    /// Takes a device down, as `ip link set DEVICE down` does; the kernel drops its routes.
    /// Healing brings it up, and puts back the routes and permanent neighbours that went with it
    /// and that nobody has put back since.
    ///
    /// # Errors
    /// When there is no such device, or it is down already.
    pub async fn link_down(&self, device: &str) -> Result<Fault, Error> {
        let site = Site::new("link down", format!("{}/{device}", self.name()));
        let device = Down::new(self, device, None);
        self.put_down(site, device).await
    }

    /// Takes a device down in the name of a fault of `self`.
    pub(super) async fn put_down(&self, site: Site, device: Down) -> Result<Fault, Error> {
        let faults = self.live()?.faults();
        let placement = Placement {
            site: site.clone(),
            machine: Some(self.name().to_owned()),
            claim: Some(device.claim()),
        };
        let apply = async {
            let device = device.take(&site).await?;
            Ok(Inverse::new(move || {
                let device = device.clone();
                async move { device.bring_back().await }
            }))
        };
        faults.put(placement, self.events(), apply).await
    }
}

/// A device that goes down and comes back.
#[derive(Debug, Clone)]
pub(super) struct Down {
    end: End,
    /// The other end of the wire, where there is one that is known.
    other: Option<End>,
    /// What went with it.
    state: DeviceState,
    /// Which ends could carry packets before.
    running: Vec<End>,
}

impl Down {
    pub(super) fn new(machine: &Machine, device: &str, other: Option<&End>) -> Self {
        Self {
            end: End {
                machine: machine.clone(),
                device: device.to_owned(),
            },
            other: other.cloned(),
            state: DeviceState::default(),
            running: Vec::new(),
        }
    }

    /// There is one fault at a time that takes a device up or down.
    pub(super) fn claim(&self) -> String {
        format!("state of {}/{}", self.end.machine.name(), self.end.device)
    }

    /// Takes it down for the first time; both ends know when this returns.
    pub(super) async fn take(mut self, site: &Site) -> Result<Self, Error> {
        let End { machine, device } = &self.end;
        let links = machine.live()?.links().await?;
        if links.iter().any(|link| link.name == *device && !link.up) {
            let name = machine.name();
            return Err(site.no_effect(format!("{name}/{device} is down already")));
        }
        self.state = machine.netlink().device_state(device).await?;
        for end in std::iter::once(&self.end).chain(&self.other) {
            if end.is_running().await? == Some(true) {
                self.running.push(end.clone());
            }
        }
        self.again().await?;
        for end in &self.running {
            end.becomes(false).await?;
        }
        Ok(self)
    }

    /// Takes it down again.
    pub(super) async fn again(&self) -> Result<(), Error> {
        let End { machine, device } = &self.end;
        let netlink = machine.live()?.netlink();
        Ok(netlink.set_link_up(device, false).await?)
    }

    /// Up again, with what went; packets pass when this returns. A machine or device that is gone
    /// by now needs nothing.
    pub(super) async fn bring_back(&self) -> Result<(), Error> {
        let End { machine, device } = &self.end;
        if self.end.is_running().await?.is_none() {
            return Ok(());
        }
        let netlink = machine.netlink();
        netlink.set_link_up(device, true).await?;
        netlink.restore_device(&self.state).await?;
        // Another fault may still hold the other end down.
        if let Some(other) = &self.other
            && !other.is_up().await?
        {
            return Ok(());
        }
        for end in &self.running {
            end.becomes(true).await?;
        }
        Ok(())
    }
}

impl End {
    /// Whether it can carry packets; `None` when it is gone.
    pub(super) async fn is_running(&self) -> Result<Option<bool>, Error> {
        let Ok(machine) = self.machine.live() else {
            return Ok(None);
        };
        let links = machine.links().await?;
        let link = links.iter().find(|link| link.name == self.device);
        Ok(link.map(|link| link.running))
    }

    async fn is_up(&self) -> Result<bool, Error> {
        let Ok(machine) = self.machine.live() else {
            return Ok(false);
        };
        let links = machine.links().await?;
        Ok(links.iter().any(|link| link.name == self.device && link.up))
    }

    async fn becomes(&self, running: bool) -> Result<(), Error> {
        let (name, device) = (self.machine.name(), &self.device);
        let with = if running { "with" } else { "without" };
        let what = format!("{name}/{device} is {with} carrier");
        let awaited = eventually(what, CARRIER, || async {
            match self.is_running().await {
                Ok(None) => Ok(()),
                Ok(Some(now)) if now == running => Ok(()),
                Ok(_) => Err("it is not yet".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
        Ok(awaited.await.map_err(FaultError::from)?)
    }
}
