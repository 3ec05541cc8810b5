//! Our decoding against Wireshark's: every field of every header that we read from a capture file
//! must be what `tshark -T json` reads there, outside and inside of the tunnel, and in the packets
//! that ICMP errors quote.

mod dissection;
mod facts;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use podlab::capture::{Recording, read_pcapng};

use dissection::Dissection;
use facts::facts;

/// Disagreements that an error shows.
const SHOWN: usize = 20;

/// What was compared, and found equal.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Packets.
    pub packets: usize,
    /// Fields of all of them.
    pub fields: usize,
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets, fields } = self;
        write!(f, "{fields} fields of {packets} packets")
    }
}

/// Decodes a pcapng file and has `tshark` decode it.
///
/// # Errors
/// Where the two differ, with packet, field and both values; or when the file cannot be read or
/// there is no `tshark`.
pub fn compare(file: &Path) -> Result<Agreement> {
    let said = Said::of(file)?;
    let agreement = said.compare(&read_pcapng(file)?);
    agreement.with_context(|| format!("compare our reading of {} with tshark's", file.display()))
}

/// What tshark says of the packets of a file.
#[derive(Debug)]
pub struct Said(Vec<Dissection>);

impl Said {
    /// Has tshark read a capture file.
    ///
    /// # Errors
    /// When it cannot, or there is no tshark.
    pub fn of(file: &Path) -> Result<Self> {
        Ok(Self(dissection::by_tshark(file)?))
    }

    /// Compares with what we say of the same packets. They are told apart by time and tap.
    ///
    /// # Errors
    /// Where the two differ, with packet, field and both values.
    pub fn compare(&self, recordings: &[Recording]) -> Result<Agreement> {
        let mut theirs: HashMap<_, VecDeque<&Dissection>> = HashMap::new();
        for dissection in &self.0 {
            let place = (dissection.interface(), dissection.time().to_owned());
            theirs.entry(place).or_default().push_back(dissection);
        }
        let mut agreement = Agreement::default();
        let mut different = Vec::new();
        for captured in recordings.iter().flat_map(|one| &one.packets) {
            let place = (Some(&*captured.device), facts::time(captured));
            let theirs = theirs.get_mut(&place).and_then(VecDeque::pop_front);
            let theirs = theirs.with_context(|| format!("tshark did not read {captured}"))?;
            agreement.packets += 1;
            for fact in facts(captured) {
                agreement.fields += 1;
                if let Err(what) = fact.compare(theirs) {
                    different.push(format!("{what}\n    in {captured}"));
                }
            }
            if let Err(what) = theirs.has_no_more_headers_than(&captured.packet) {
                different.push(format!("{what}\n    in {captured}"));
            }
        }
        ensure!(
            agreement.packets == self.0.len(),
            "tshark read {} packets, we {}",
            self.0.len(),
            agreement.packets
        );
        ensure!(
            different.is_empty(),
            "{} of {agreement} differ:\n  {}",
            different.len(),
            different[..different.len().min(SHOWN)].join("\n  ")
        );
        Ok(agreement)
    }
}
