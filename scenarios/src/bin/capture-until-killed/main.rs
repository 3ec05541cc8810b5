//! Pings for ever between two pods while every device of the cluster is captured, until somebody
//! kills it: what is in the capture file then is what a crashed test leaves to its reader.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use podlab_scenarios::program;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS};

/// Captures a cluster in which two pods ping each other.
#[derive(Debug, Parser)]
struct Arguments {
    /// The capture file to write.
    file: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("capture-until-killed", pings(arguments))
}

async fn pings(arguments: Arguments) -> Result<()> {
    let cluster = seed::boot().await?;
    let (from, to) = (cluster.pod(TEST_TOOLS)?, cluster.pod(DEMO_W2)?);
    let _set = cluster.capture().all().file(arguments.file).start().await?;
    loop {
        from.ping(&to).await?;
    }
}
