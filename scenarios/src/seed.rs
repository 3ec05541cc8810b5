//! The cluster of the seed document: three nodes, four pods, Calico in IPIP mode.

use podlab::agent::PodlabAgent;
use podlab::spec::ClusterSpec;
use podlab::{Cluster, Error};

use crate::backend;

/// The node that the document mentions without a name.
pub const MASTER: &str = "k8s-master";
/// The node on which most pods run.
pub const WORKER_1: &str = "k8s-worker-1";
/// The node at the far end of the document's ping.
pub const WORKER_2: &str = "k8s-worker-2";

/// The pod from which the document pings and asks.
pub const TEST_TOOLS: &str = "test-tools";
/// A pod with a server and a client on [`WORKER_1`].
pub const DEMO: &str = "c2c-network-demo";
/// A pod with a server and a client on [`WORKER_2`].
pub const DEMO_W2: &str = "c2c-network-demo-w2";
/// A pod of one container on [`WORKER_1`].
pub const ECHO_SERVER: &str = "echo-server";

/// The container of the demo pods that answers HTTP.
pub const SERVER: &str = "hello-world-server";
/// The container of the demo pods from which requests are made.
pub const CLIENT: &str = "curl-client";
/// The port on which [`SERVER`] answers.
pub const HTTP_PORT: u16 = 8080;

/// The underlay interface of every node.
pub const UNDERLAY: &str = "ens192";
/// The tunnel device of every node.
pub const TUNNEL: &str = "tunl0";
/// The MTU of tunnel and pods in bytes.
pub const MTU: u32 = 1440;

/// The document's cluster, not booted yet.
pub fn spec() -> ClusterSpec {
    let demo =
        |pod: podlab::spec::PodBuilder| pod.http_container(SERVER, HTTP_PORT).container(CLIENT);
    Cluster::builder()
        .pool("192.168.0.0/16", |pool| pool.tunnel_mtu(MTU))
        .node(MASTER, |node| {
            node.address("10.12.22.1/16")
                .interface(UNDERLAY)
                .block("192.168.0.0/24")
        })
        .node(WORKER_1, |node| {
            node.address("10.12.22.2/16")
                .interface(UNDERLAY)
                .block("192.168.1.0/24")
        })
        .node(WORKER_2, |node| {
            node.address("10.12.22.3/16")
                .interface(UNDERLAY)
                .block("192.168.2.0/24")
        })
        .pod(ECHO_SERVER, |pod| {
            pod.on(WORKER_1).address("192.168.1.2").container("echo")
        })
        .pod(DEMO, |pod| demo(pod.on(WORKER_1).address("192.168.1.10")))
        .pod(TEST_TOOLS, |pod| {
            pod.on(WORKER_1).address("192.168.1.12").container("tools")
        })
        .pod(DEMO_W2, |pod| demo(pod.on(WORKER_2).address("192.168.2.6")))
}

/// Boots the document's cluster with this encapsulation backend in every node; ends the calling
/// test as a skip where the kernel does not offer it.
///
/// # Errors
/// As [`ClusterSpec::boot`].
pub async fn boot_encapsulated(backend: &str) -> Result<Cluster, Error> {
    let agent = PodlabAgent::with_encapsulation(backend);
    backend::boot(spec(), agent, backend).await
}

/// Boots the document's cluster with `podlab-agent` in every node.
///
/// # Errors
/// As [`ClusterSpec::boot`].
pub async fn boot() -> Result<Cluster, Error> {
    spec().boot().await
}
