//! Compares our decoding with tshark's on all capture files of a folder: those that a run of the
//! scenarios leaves with `PODLAB_CAPTURES=FOLDER`. `make captures` does both.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use podlab::capture::{Captured, Recording, read_pcapng, save_pcapng};
use podlab_scenarios::tshark::{self, Agreement};

/// Packets of one capture that are compared, the first ones: streams have hundreds of thousands
/// that are all alike.
const OF_ONE: usize = 2000;
/// Packets that one tshark reads.
const AT_ONCE: usize = 20_000;

/// Has tshark read all capture files of a folder, and compares every field.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder.
    folder: PathBuf,
}

fn main() -> ExitCode {
    match compare(&Arguments::parse().folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare-captures: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(folder: &Path) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "pcapng")
    });
    paths.sort();
    ensure!(!paths.is_empty(), "no capture is in {}", folder.display());
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("together.pcapng");
    let (mut sum, mut left_out) = (Agreement::default(), 0);
    let mut together: Vec<Recording> = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        for recording in read_pcapng(path)? {
            left_out += recording.packets.len().saturating_sub(OF_ONE);
            together.push(renamed(recording, path));
        }
        let count: usize = together.iter().map(|one| one.packets.len()).sum();
        if count >= AT_ONCE || number + 1 == paths.len() {
            save_pcapng(&file, &together)?;
            let agreement = tshark::compare(&file)?;
            ensure!(agreement.packets == count, "{agreement} of {count}");
            sum.packets += agreement.packets;
            sum.fields += agreement.fields;
            together.clear();
        }
    }
    ensure!(sum.packets > 0, "no capture has a packet");
    println!(
        "{} captures: we and tshark agree on {sum}; {left_out} packets of long captures not compared",
        paths.len()
    );
    Ok(())
}

/// The beginning of a recording under a name that tells the file.
fn renamed(recording: Recording, path: &Path) -> Recording {
    let file = path.file_stem().unwrap_or_default().to_string_lossy();
    let device = format!("{file}: {}", recording.device);
    let packets = recording.packets.into_iter().take(OF_ONE);
    let packets = packets.map(|captured| Captured {
        device: device.as_str().into(),
        ..captured
    });
    Recording {
        packets: packets.collect(),
        device,
        ..recording
    }
}
