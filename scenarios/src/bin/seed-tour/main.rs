//! Boots the seed's cluster, follows one packet through it, and shows what was proven.

mod picture;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use podlab_scenarios::program;
use podlab_scenarios::seed::{self, DEMO_W2, TEST_TOOLS};

/// Boots the seed document's cluster and shows its nodes, its pods and the path of one packet.
#[derive(Debug, Parser)]
struct Arguments {
    /// How to end after the tour; the scenarios use it to prove that nothing stays behind.
    #[arg(long, value_enum, default_value_t)]
    end: End,
    /// Say `paused` once the cluster is up, and go on when a line comes on standard input.
    #[arg(long)]
    pause: bool,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum End {
    #[default]
    Pass,
    Fail,
    Panic,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("seed-tour", tour(&arguments))
}

async fn tour(arguments: &Arguments) -> Result<()> {
    let cluster = seed::boot().await?;
    if arguments.pause {
        println!("paused");
        std::io::stdout().flush()?;
        let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        line.await??;
    }
    let trace = cluster
        .trace(&cluster.pod(TEST_TOOLS)?, &cluster.pod(DEMO_W2)?)
        .await?;
    picture::print(&cluster, &trace);
    ensure!(trace.is_delivered(), "the packet did not come through");
    match arguments.end {
        End::Pass => Ok(cluster.shutdown().await?),
        End::Fail => bail!("asked to fail"),
        End::Panic => panic!("asked to panic"),
    }
}
