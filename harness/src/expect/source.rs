//! Where the packets come from that expectations are about.

use std::time::Duration;

use crate::capture::{Capture, CaptureError, CaptureSet, Captured, Losses, Recording, Tap};
use crate::event::EventLog;

/// Where packets come from: a running [`CaptureSet`] or [`Capture`], or a [`Recording`].
#[derive(Clone, Copy, Debug)]
pub struct Source<'a>(Kind<'a>);

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Set(&'a CaptureSet),
    Capture(&'a Capture),
    Recording(&'a Recording),
}

impl<'a> From<&'a CaptureSet> for Source<'a> {
    fn from(set: &'a CaptureSet) -> Self {
        Self(Kind::Set(set))
    }
}

impl<'a> From<&'a Capture> for Source<'a> {
    fn from(capture: &'a Capture) -> Self {
        Self(Kind::Capture(capture))
    }
}

impl<'a> From<&'a Recording> for Source<'a> {
    fn from(recording: &'a Recording) -> Self {
        Self(Kind::Recording(recording))
    }
}

impl Source<'_> {
    /// The taps that it has.
    pub(super) fn taps(self) -> Vec<Tap> {
        match self.0 {
            Kind::Set(set) => set.taps().to_vec(),
            Kind::Capture(capture) => vec![capture.name().into()],
            Kind::Recording(recording) => vec![recording.device.as_str().into()],
        }
    }

    /// What passed a tap before this call, and what is missing of it.
    pub(super) fn at(self, tap: &Tap) -> Result<(Vec<Captured>, Losses), CaptureError> {
        match self.0 {
            Kind::Set(set) => set.at(tap, 0),
            Kind::Capture(capture) => {
                let packets = capture.packets();
                Ok((packets, capture.losses()?))
            }
            Kind::Recording(recording) => Ok((recording.packets.clone(), recording.losses())),
        }
    }

    /// Asks `evaluate` now and whenever packets came in; `None` when the time is up. What does not
    /// change is asked once.
    pub(super) async fn wait_until<T>(
        self,
        mut evaluate: impl FnMut() -> Option<T>,
        within: Duration,
    ) -> Option<T> {
        match self.0 {
            Kind::Set(set) => set.wait_until(evaluate, within).await,
            Kind::Capture(capture) => capture.until(evaluate, within).await,
            Kind::Recording(_) => evaluate(),
        }
    }

    pub(super) fn events(self) -> Option<EventLog> {
        match self.0 {
            Kind::Set(set) => Some(set.events().clone()),
            Kind::Capture(capture) => capture.events().cloned(),
            Kind::Recording(_) => None,
        }
    }
}
