//! Has clusters go through random faults, a seed each.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use podlab_scenarios::chaos::Ordeal;
use podlab_scenarios::program;

/// Has a cluster go through the troubles of each seed, one after the other; says which seeds failed.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Whether there are troubles that need netem, which changes the schedules; without this where
    /// the kernel has it.
    #[arg(long)]
    netem: Option<Choice>,
    /// The agents' encapsulation backend; without this the one that agents choose.
    #[arg(long)]
    encapsulation: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    Yes,
    No,
}

fn main() -> ExitCode {
    program::run("chaos", run(Arguments::parse()))
}

async fn run(arguments: Arguments) -> Result<()> {
    let mut failed = Vec::new();
    for seed in (0..arguments.count).map(|place| arguments.seed.wrapping_add(place)) {
        let here = Ordeal::of_seed(seed);
        let ordeal = Ordeal {
            netem: arguments.netem.map_or(here.netem, |it| it == Choice::Yes),
            encapsulation: arguments.encapsulation.clone(),
            ..here
        };
        match ordeal.endure().await {
            Ok(endured) => println!("{endured}"),
            Err(error) => {
                println!("seed {seed} FAILED: {error:#}");
                failed.push(seed.to_string());
            }
        }
    }
    let (count, seeds) = (arguments.count, failed.join(", "));
    println!("{} of {count} seeds failed", failed.len());
    ensure!(failed.is_empty(), "failed: seeds {seeds}");
    Ok(())
}
