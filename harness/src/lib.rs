//! Podlab boots multi-node pod networks out of Linux namespaces, runs the real dataplane agent in
//! every node, and lets a test prove what the network does: from pings, HTTP, routing tables and
//! captured packets.
//!
//! # Enter the sandbox
//!
//! A test crate moves into namespaces of its own before it has any thread. Nothing that a test
//! does can reach the host, and nothing stays when the process ends, however it ends.
//!
//! ```no_run
//! podlab::sandbox!();
//! # fn main() {}
//! ```
//!
//! A program calls [`sandbox::enter`] first thing in `main`. Suites whose tests may have to be
//! skipped on some kernels use the runner of the module [`mod@suite`] instead.
//!
//! # Boot a cluster
//!
//! The builder fills a plain value, [`spec::ClusterSpec`]; [`boot`](spec::ClusterSpec::boot)
//! checks all of it first, and returns when every agent has said that it is ready.
//!
//! ```no_run
//! # async fn example() -> Result<(), podlab::Error> {
//! use podlab::Cluster;
//!
//! let cluster = Cluster::builder()
//!     .node("k8s-worker-1", |n| n.address("10.12.22.2/16").block("192.168.1.0/24"))
//!     .node("k8s-worker-2", |n| n.address("10.12.22.3/16").block("192.168.2.0/24"))
//!     .pod("test-tools", |p| p.on("k8s-worker-1").address("192.168.1.12"))
//!     .pod("web", |p| p.on("k8s-worker-2").address("192.168.2.6").serve_http(8080))
//!     .boot()
//!     .await?;
//! println!("{}", cluster.boot_report());
//! # Ok(())
//! # }
//! ```
//!
//! # Ask from where a user would ask
//!
//! Nodes, pods and the fabric between them are [`Machine`]s, and the verbs live on them.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! let (tools, web) = (cluster.pod("test-tools")?, cluster.pod("web")?);
//! let reply = tools.ping(&web).await?;
//! assert_eq!(reply.ttl, 62); // two forwarding hops; the tunnel costs none
//! let page = tools.http_get(&web, 8080, "/").await?;
//! assert_eq!(page.text(), "<p>Hi from web</p>");
//! let curl = tools.exec("curl -sS http://192.168.2.6:8080/").await?.success()?;
//! assert_eq!(curl.stdout, page.text());
//! # Ok(())
//! # }
//! ```
//!
//! # Look at the wire
//!
//! A capture sees every packet from the moment it was made, on any device of any machine.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! use podlab::capture::Filter;
//!
//! let node = cluster.node("k8s-worker-1")?;
//! let underlay = node.capture(node.underlay(), &Filter::protocol(4))?;
//! cluster.pod("test-tools")?.ping(&cluster.pod("web")?).await?;
//! for captured in underlay.stop().await?.packets {
//!     assert_eq!(captured.packet.ipip_depth(), 1, "{captured}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A capture set has all devices of a path, of a node or of the cluster, and writes them into one
//! pcapng file that is there even after a SIGKILL.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! let (tools, web) = (cluster.pod("test-tools")?, cluster.pod("web")?);
//! let set = cluster.capture().path(&tools, &web).file("walk.pcapng").start().await?;
//! tools.ping(&web).await?;
//! for captured in set.packets() {
//!     println!("{captured}"); // hop by hop
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What the packets have to be is told by outer and inner headers and by order; when they are
//! not, the error shows those that come nearest, field by field ([`mod@expect`]).
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! # let (tools, web) = (cluster.pod("test-tools")?, cluster.pod("web")?);
//! # let set = cluster.capture().path(&tools, &web).start().await?;
//! use podlab::expect::{ANYBODY, icmp, ip, ipip};
//!
//! let (n1, n2) = (tools.node(), web.node());
//! tools.ping(&web).await?;
//! set.on(n1.underlay_tap())
//!     .expect(ipip(&n1, &n2).around(icmp(&tools, &web).echo_request().ttl(63)))
//!     .then(ipip(&n2, &n1).around(icmp(&web, &tools).echo_reply()))
//!     .none(ip(&tools, ANYBODY))
//!     .now()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Follow one packet
//!
//! A trace sends one marked probe, follows it over every device there and back, and names the
//! place and the cause where something is not as the specification wants it: [`mod@trace`].
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! let trace = cluster
//!     .trace(&cluster.pod("test-tools")?, &cluster.pod("web")?)
//!     .await?;
//! println!("{trace}"); // hop by hop, with both headers
//! if let Some(diagnosis) = trace.diagnosis() {
//!     println!("{diagnosis}"); // lost between n1/tunl0 and n1/eth0: …
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Read what the kernel has
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! let node = cluster.node("k8s-worker-1")?;
//! for route in node.routes().await? {
//!     println!("{} via {:?}", route.destination, route.gateway);
//! }
//! print!("{}", node.route_table().await?); // as `route -n` prints it
//! # Ok(())
//! # }
//! ```
//!
//! # Tell what happened
//!
//! Everything that the harness does and sees is one typed event with a time, see [`event`].
//! `PODLAB_EVENTS=terminal` prints them while a test runs.
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) {
//! for event in cluster.events().all() {
//!     println!("{event}"); // +0.041 s k8s-worker-1: agent ready after 12.3 ms, ebpf
//! }
//! # }
//! ```
//!
//! # Change a running cluster
//!
//! Nodes and pods come, go and move, and get other addresses, blocks and MTUs. A change is checked
//! as a whole, like a specification, before anything is touched; the agents follow by the
//! datastore, which a test awaits by [`eventually`].
//!
//! ```no_run
//! # async fn example(cluster: podlab::Cluster) -> Result<(), podlab::Error> {
//! use podlab::spec::Encapsulation;
//!
//! cluster
//!     .add_node("k8s-worker-3", |n| n.address("10.12.22.4/16").block("192.168.3.0/24"))
//!     .await?;
//! cluster.move_pod("web", "k8s-worker-3").await?;
//! cluster.node("k8s-worker-2")?.set_address("10.12.22.9/16").await?;
//! cluster
//!     .set_pool("default-pool", |pool| pool.encapsulation(Encapsulation::CrossSubnet))
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! What no verb does is written as raw JSON: [`Cluster::datastore`].
//!
//! # Bring another agent
//!
//! Whatever fulfils the contract of the module [`agent`] can take the place of `podlab-agent`:
//! implement [`agent::Agent`] and boot with [`boot_with`](spec::ClusterSpec::boot_with).
//!
//! # Requirements
//!
//! Linux with network namespaces, veth and bridge; root, or an ordinary user where the system lets
//! one make user namespaces (where not, [`sandbox::Obstacle`] says why and what to do). All time limits are multiplied by the environment variable `PODLAB_PATIENCE`.

pub mod agent;
mod backlog;
pub mod bundle;
pub mod capture;
pub mod cluster;
pub mod datastore;
mod error;
pub mod event;
pub mod eventually;
pub mod expect;
pub mod fault;
pub mod machine;
pub mod matrix;
mod namespace;
pub mod netlink;
pub mod packet;
pub mod patience;
pub mod probe;
pub mod process;
mod route_table;
pub mod spec;
pub mod suite;
pub mod timeline;
pub mod trace;

pub use cluster::{BootReport, Cluster, Container, Node, Pod};
pub use error::Error;
pub use machine::Machine;
pub use namespace::sandbox;
pub use podlab_macros::test;

/// What the macros of this crate expand to; no part of its face.
#[doc(hidden)]
pub mod __private {
    pub use ctor;
    pub use inventory;
}
