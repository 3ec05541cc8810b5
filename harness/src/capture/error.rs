//! What can go wrong with a capture.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::{Captured, Tap};
use crate::patience::PatienceError;

/// A capture could not be made, or did not show what was waited for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// No device of that name in the network namespace of the calling thread.
    #[error(
        "cannot capture on {device}: no such device\n\
         hint: this network namespace has {}", list(.present)
    )]
    NoSuchDevice {
        /// The name that was asked for.
        device: String,
        /// The devices that are there.
        present: Vec<String>,
    },
    /// A capture set has no such tap.
    #[error("no capture on {tap} in this set\nhint: it has {}", list(.present))]
    NoSuchTap {
        /// The tap that was asked for.
        tap: Tap,
        /// The taps that there are.
        present: Vec<Tap>,
    },
    /// A capture set was to be started without any device.
    #[error(
        "a capture set has no device to capture on\n\
         hint: ask for all() of the cluster, a node, a path or a device before start()"
    )]
    NoTaps,
    /// The process may not capture in this network namespace.
    #[error(
        "cannot open a packet socket for {device}\n\
         hint: needs CAP_NET_RAW in the user namespace that owns this network namespace: run as \
         root, or in a sandbox"
    )]
    NotPermitted {
        /// The device to capture on.
        device: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Packets of this kind of device begin with a header that cannot be read.
    #[error("cannot capture on {device}: unknown link type ARPHRD {arphrd}")]
    UnknownLinkType {
        /// The device to capture on.
        device: String,
        /// The kernel's number for the kind of device (`linux/if_arp.h`).
        arphrd: u16,
    },
    /// The patience factor in the environment is no number.
    #[error(transparent)]
    Patience(#[from] PatienceError),
    /// The compiled filter is longer than the kernel allows.
    #[error(
        "the filter for {device} has {instructions} instructions\n\
         hint: the kernel takes 4096; capture more and select afterwards"
    )]
    FilterTooLong {
        /// The device to capture on.
        device: String,
        /// Length of the program.
        instructions: usize,
    },
    /// A system call failed.
    #[error("cannot {operation} on {device}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The device, or the name of the capture.
        device: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The packets that were waited for did not come in time.
    #[error("{device}: not seen within {within:?}; {}", Seen(.seen))]
    NotSeen {
        /// Name of the capture.
        device: String,
        /// How long the wait was.
        within: Duration,
        /// What was captured instead.
        seen: Vec<Captured>,
    },
}

fn list(names: &[impl ToString]) -> String {
    match names {
        [] => "no device".to_owned(),
        names => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            names.join(", ")
        }
    }
}

/// The last packets of a capture, one per line.
struct Seen<'a>(&'a [Captured]);

/// Packets that an error shows; what came last is what matters.
const SHOWN: usize = 30;

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.0.len().saturating_sub(SHOWN);
        match self.0.len() {
            0 => f.write_str("no packet was captured")?,
            1 => f.write_str("captured 1 packet:")?,
            n => write!(f, "captured {n} packets:")?,
        }
        if skipped > 0 {
            write!(f, "\n  … {skipped} more")?;
        }
        self.0[skipped..]
            .iter()
            .try_for_each(|captured| write!(f, "\n  {captured}"))
    }
}
