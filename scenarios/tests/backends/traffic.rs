//! Bulk traffic between pods.

use std::time::Duration;

use anyhow::{Context, Result};
use podlab::Machine;
use podlab::Pod;
use podlab::process::Program;

const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);
const PORT: &str = "5201";

fn program(arguments: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_traffic")).args(arguments)
}

/// Starts `sink` on one pod and then `source` on the other; returns the line of the sink.
async fn run(from: &Machine, source: &[&str], to: &Machine, sink: &[&str]) -> Result<String> {
    let mut sink = to.spawn(program(sink))?;
    sink.wait_for_line(|line| line == "listening", SOON).await?;
    let source = from.spawn(program(source))?;
    let received = sink.wait(LONG).await?.success().context("the sink");
    let sent = source.wait(LONG).await?.success().context("the source");
    let received = received?;
    sent?;
    let line = received.stdout.lines().last().unwrap_or_default();
    Ok(line.to_owned())
}

/// Sends a TCP stream of `bytes` bytes, which must arrive unchanged. Returns its rate in
/// Gbit/s.
pub(crate) async fn tcp(from: &Pod, to: &Pod, bytes: usize) -> Result<f64> {
    let (address, bytes) = (to.address().to_string(), bytes.to_string());
    let source = ["tcp-source", &address, PORT, &bytes];
    let line = run(from, &source, to, &["tcp-sink", PORT, &bytes]).await?;
    let (received, seconds) = line.split_once(' ').context(line.clone())?;
    Ok(received.parse::<f64>()? * 8.0 / seconds.parse::<f64>()? / 1e9)
}

/// Sends `rounds` super-packets of `count` datagrams of `size` bytes, each of which must arrive
/// unchanged and with its boundaries. Returns how many did.
pub(crate) async fn udp(from: &Pod, to: &Pod, size: u16, count: u16, rounds: u16) -> Result<usize> {
    let address = to.address().to_string();
    let numbers = [size, count, rounds].map(|number| number.to_string());
    let [size, count, rounds] = numbers.each_ref().map(String::as_str);
    let source = ["udp-source", &address, PORT, size, count, rounds];
    let line = run(from, &source, to, &["udp-sink", PORT, size, count, rounds]).await?;
    Ok(line.parse()?)
}

/// Sends one IPv4 packet as it is from a machine; the kernel writes the header's checksum.
pub(crate) async fn raw(from: &Machine, packet: &[u8]) -> Result<()> {
    let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
    from.exec(program(&["raw", &hex])).await?.success()?;
    Ok(())
}
