//! A wire: what leads from a node to the fabric, or from a pod to its node, and what goes wrong
//! with it.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::error::Site;
use super::guard::Fault;
use super::link::Down;
use super::loss::Loss;
use super::registry::{Inverse, Placement};
use super::{fabric, ingress};
use crate::error::Error;
use crate::machine::Machine;

/// The two ends of a veth pair, seen from the node or pod that it belongs to.
#[derive(Debug, Clone)]
pub struct Wire {
    pub(crate) near: End,
    pub(crate) far: End,
    pub(crate) kind: Kind,
}

/// What is at the other end of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A node's, to the fabric.
    Node,
    /// A pod's, to its node.
    Pod,
}

#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) machine: Machine,
    pub(crate) device: String,
}

/// Which way packets go on a wire, seen from the node or pod that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To it.
    In,
    /// From it.
    Out,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
        })
    }
}

/// `k8s-worker-1/eth0`.
impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.near.machine.name(), self.near.device)
    }
}

impl Wire {
    /// The device of the node or pod.
    pub fn device(&self) -> &str {
        &self.near.device
    }

    /// Takes the device of the node or pod down, see [`Machine::link_down`].
    ///
    /// # Errors
    /// When it is down already.
    pub async fn down(&self) -> Result<Fault, Error> {
        let End { machine, device } = &self.near;
        let down = Down::new(machine, device, Some(&self.far));
        machine.put_down(self.site("link down"), down).await
    }

    /// Pulls the plug: the other end goes down, so that the device is without carrier while it
    /// stays up (`IFF_UP`), with its addresses and routes.
    ///
    /// # Errors
    /// When the other end is down already.
    pub async fn lose_carrier(&self) -> Result<Fault, Error> {
        let End { machine, device } = &self.far;
        let down = Down::new(machine, device, Some(&self.near));
        self.near
            .machine
            .put_down(self.site("carrier loss"), down)
            .await
    }

    /// Takes the device down and up again and again, until it is healed: `down` for so long, then
    /// `up` for so long. It is down for the first time when this returns. Routes and permanent
    /// neighbours that go are put back each time it comes up, as by a network manager.
    ///
    /// # Errors
    /// When it is down already, or one of the times is zero.
    pub async fn flap(&self, down: Duration, up: Duration) -> Result<Fault, Error> {
        let site = self.site(format!("flapping, {down:?} down and {up:?} up,"));
        if down.is_zero() || up.is_zero() {
            return Err(site.impossible("both times are to be longer than zero"));
        }
        let End { machine, device } = &self.near;
        let device = Down::new(machine, device, Some(&self.far));
        let placement = self.placement(&site, Some(device.claim()));
        let apply = async {
            let device = device.take(&site).await?;
            let mut task = JoinSet::new();
            let flapping = device.clone();
            task.spawn(async move { keep_flapping(&flapping, down, up).await.err() });
            let task = Arc::new(tokio::sync::Mutex::new(task));
            Ok(Inverse::new(move || {
                let (device, task) = (device.clone(), Arc::clone(&task));
                async move {
                    let mut task = task.lock().await;
                    task.abort_all();
                    // One that ended by itself says why; a second healing finds nothing.
                    let ended = task.join_next().await;
                    device.bring_back().await?;
                    match ended {
                        Some(Ok(Some(error))) => Err(error),
                        _ => Ok(()),
                    }
                }
            }))
        };
        let faults = self.near.machine.live()?.faults();
        faults
            .put(placement, self.near.machine.events(), apply)
            .await
    }

    /// Loses packets on the wire. What a node's device carries is counted as it is on the
    /// underlay, tunnel packets as one packet of IP protocol 4 each.
    ///
    /// # Errors
    /// When the loss would never lose a packet, or the kernel lacks nftables.
    pub async fn lose(&self, direction: Direction, loss: Loss) -> Result<Fault, Error> {
        let site = Site::new(loss.to_string(), format!("{self} {direction}"));
        if let Some(why) = loss.nothing() {
            return Err(site.impossible(why));
        }
        let when = loss.expression();
        let placement = self.placement(&site, None);
        let faults = self.near.machine.live()?.faults();
        let events = self.near.machine.events();
        match self.kind {
            // Not at the node's end: a backend's program may take packets before any rule there.
            Kind::Node => {
                let ports = vec![self.far.device.clone()];
                let rule = match direction {
                    Direction::In => fabric::Rule::To { ports, when },
                    Direction::Out => fabric::Rule::From { ports, when },
                };
                let apply = fabric::put(faults, &self.far.machine, &site, vec![rule]);
                faults.put(placement, events, apply).await
            }
            Kind::Pod => {
                let end = match direction {
                    Direction::In => &self.near,
                    Direction::Out => &self.far,
                };
                let apply = ingress::put(faults, end, &site, &when);
                faults.put(placement, events, apply).await
            }
        }
    }

    pub(super) fn site(&self, fault: impl Into<String>) -> Site {
        Site::new(fault, self.to_string())
    }

    pub(super) fn placement(&self, site: &Site, claim: Option<String>) -> Placement {
        Placement {
            site: site.clone(),
            machine: Some(self.near.machine.name().to_owned()),
            claim,
        }
    }
}

/// Begins with the device down; ends with an error only.
async fn keep_flapping(device: &Down, down: Duration, up: Duration) -> Result<Infallible, Error> {
    loop {
        tokio::time::sleep(down).await;
        device.bring_back().await?;
        tokio::time::sleep(up).await;
        device.again().await?;
    }
}
