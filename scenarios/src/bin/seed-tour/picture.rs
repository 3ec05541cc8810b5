//! The short picture of what was proven.

use podlab::Cluster;
use podlab::trace::Trace;

/// Prints nodes, pods, encapsulation, boot time and the path of one packet.
pub(crate) fn print(cluster: &Cluster, trace: &Trace) {
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
    println!("\n{trace}\n");
}
