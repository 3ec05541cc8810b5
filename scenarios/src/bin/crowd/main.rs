//! A cluster of twenty nodes with agents, servers, a capture of every device and traffic, until
//! somebody kills it: what is left on the host then is looked at by the tests in `tests/host/`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use podlab::Cluster;
use podlab::spec::ClusterSpec;
use podlab_scenarios::program;

const NODES: usize = 20;
const PORT: u16 = 8080;

/// Boots twenty nodes with a pod each, says `ready`, and lets every pod ask its neighbour.
#[derive(Debug, Parser)]
struct Arguments {
    /// End by itself when every pod has had one answer.
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("crowd", crowd(arguments))
}

async fn crowd(arguments: Arguments) -> Result<()> {
    let cluster = spec().boot().await?;
    let capture = cluster.capture().all().start().await?;
    println!("ready");
    loop {
        let pods = cluster.pods();
        for (from, to) in pods.iter().zip(pods.iter().cycle().skip(1)) {
            from.http_get(to, PORT, "/").await?;
        }
        if arguments.once {
            capture.stop()?;
            return Ok(cluster.shutdown().await?);
        }
    }
}

fn spec() -> ClusterSpec {
    (1..=NODES).fold(Cluster::builder(), |spec, number| {
        let name = format!("n{number}");
        spec.node(&name, |node| {
            node.address(format!("10.12.22.{number}/16"))
                .block(format!("192.168.{number}.0/24"))
        })
        .pod(format!("p{number}"), |pod| {
            pod.on(&name)
                .address(format!("192.168.{number}.2"))
                .serve_http(PORT)
        })
    })
}
