//! A cluster of twenty nodes with agents, servers, captures and traffic, until somebody kills it:
//! what is left on the host then is looked at by the tests in `tests/host/`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use podlab::Cluster;
use podlab::capture::CaptureBuilder;
use podlab::spec::ClusterSpec;
use podlab_scenarios::program;

const NODES: usize = 20;
const PORT: u16 = 8080;

/// Boots twenty nodes with a pod each, taps their underlay devices, says `ready, N taps`, and lets
/// every pod ask its neighbour.
#[derive(Debug, Parser)]
struct Arguments {
    /// End by itself when every pod has had one answer.
    #[arg(long)]
    once: bool,
    /// Tap every device there is: seven times as many.
    #[arg(long)]
    tap_everything: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("crowd", crowd(arguments))
}

async fn crowd(arguments: Arguments) -> Result<()> {
    let cluster = spec().boot().await?;
    let capture = match arguments.tap_everything {
        true => cluster.capture().all(),
        false => underlay(&cluster),
    };
    let capture = capture.start().await?;
    println!("ready, {} taps", capture.taps().len());
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

fn underlay(cluster: &Cluster) -> CaptureBuilder {
    let nodes = cluster.nodes().into_iter();
    nodes.fold(cluster.capture(), |capture, node| {
        capture.device(&node, node.underlay())
    })
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
