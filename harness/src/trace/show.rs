//! A trace as text: hop by hop with all headers, and what was decided in between.

use std::fmt;

use super::hop::{Hop, Leg};
use super::{Trace, Verdict};

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, .. } = self;
        writeln!(
            f,
            "One {} from {from} to {to}, hop by hop (outer header, then inner):\n",
            self.what
        )?;
        hops(f, &self.there)?;
        if !self.back.is_empty() {
            writeln!(f, "\n  and back:\n")?;
            hops(f, &self.back)?;
        }
        write!(f, "\n  {}", self.verdict)?;
        if let Some(diagnosis) = self.diagnosis() {
            write!(f, "\n  {}", diagnosis.explanation().replace('\n', "\n  "))?;
        }
        for (point, lost) in self.lossy_taps() {
            write!(f, "\n  the capture on {point} lost {lost} packets")?;
        }
        Ok(())
    }
}

fn hops(f: &mut fmt::Formatter<'_>, hops: &[Hop]) -> fmt::Result {
    if hops.is_empty() {
        writeln!(f, "  (seen nowhere)")?;
    }
    for hop in hops {
        writeln!(f, "  {hop}")?;
        if let Some(decision) = &hop.decision {
            writeln!(f, "            {decision}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered there and back"),
            Self::Lost(Leg::There) => f.write_str("lost on the way there"),
            Self::Lost(Leg::Back) => f.write_str("lost on the way back"),
            Self::Anomalous(leg) => {
                write!(f, "not lost, but not as it should be on the way {leg}")
            }
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::There => "there",
            Self::Back => "back",
        })
    }
}
