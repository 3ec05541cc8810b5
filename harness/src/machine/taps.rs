//! Captures on a machine's devices.

use super::Machine;
use crate::capture::{Capture, CaptureSocket, Filter, Tap};
use crate::error::Error;

impl Machine {
    /// The name that captures on `device` have: `machine/device`.
    pub fn tap(&self, device: impl AsRef<str>) -> Tap {
        Tap::new(self.name(), device.as_ref())
    }

    /// Captures on `device` whatever `filter` lets through. Every packet from the moment of the
    /// return on is seen.
    ///
    /// # Errors
    /// When there is no such device; the message lists those that there are.
    pub fn capture(&self, device: impl AsRef<str>, filter: &Filter) -> Result<Capture, Error> {
        let device = device.as_ref();
        let name = format!("{}/{device}", self.name());
        let socket = self
            .live()?
            .namespaces()
            .run(|| CaptureSocket::open(device, filter))??;
        let events = self.events().clone();
        Ok(Capture::start_told(socket, name, filter, events)?)
    }
}
