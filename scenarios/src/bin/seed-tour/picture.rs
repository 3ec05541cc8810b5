//! The short picture of what was proven.

use anyhow::Result;
use podlab::Cluster;
use podlab::packet::Ipv4;

use crate::path::{Hop, Journey};

/// Prints nodes, pods, encapsulation, boot time and the path of one packet.
///
/// # Errors
/// When a node cannot be asked for its routes.
pub(crate) fn print(cluster: &Cluster, journey: &Journey) -> Result<()> {
    println!("\nThe seed's cluster, as it stands:\n");
    println!("  nodes");
    for node in cluster.nodes() {
        let blocks: Vec<String> = node.blocks().iter().map(ToString::to_string).collect();
        let (name, address) = (node.name(), node.address());
        println!(
            "    {name:<20} {address:<13} on {}   block {}",
            node.underlay(),
            blocks.join(", ")
        );
    }
    println!("  pods");
    for pod in cluster.pods() {
        let (name, address, node) = (pod.name(), pod.address(), pod.node());
        println!(
            "    {name:<20} {address:<13} on {:<14} {}",
            node.name(),
            pod.host_interface()
        );
    }
    println!("  encapsulation");
    for node in cluster.nodes() {
        let status = node.agent_status();
        println!(
            "    {:<20} {} ({})",
            node.name(),
            status.encapsulation,
            status.why
        );
    }
    println!("  boot\n    {}", cluster.boot_report());
    println!(
        "\nOne ping from {} to {}, hop by hop (outer header, then inner):\n",
        journey.from, journey.to
    );
    journey.request.iter().for_each(print_hop);
    println!("\n  and back:\n");
    journey.reply.iter().for_each(print_hop);
    println!("\n  {}\n", journey.result);
    Ok(())
}

fn print_hop(hop: &Hop) {
    let place = format!("{}/{}", hop.machine, hop.device);
    let headers: Vec<String> = hop.packet.packet.ipv4_headers().map(header).collect();
    println!(
        "  {:>5} µs  {place:<36} {}",
        hop.after.as_micros(),
        headers.join("  ")
    );
}

fn header(header: &Ipv4) -> String {
    let protocol = match header.protocol {
        1 => "icmp".to_owned(),
        4 => "ipip".to_owned(),
        other => format!("protocol {other}"),
    };
    format!(
        "[{} > {} ttl {} {protocol}]",
        header.source, header.destination, header.ttl
    )
}
